#!/bin/bash
# Owns the text of "make help".

cat <<'END'
make run     get what is missing, build the module, start a CONNECT proxy here, with the
             distribution's nginx; with one from source where that has none for modules, or where
             NGINX, NGINX_SOURCES, CORE or LINK=static asks for it
             PORT=3128  ALLOW="443 563"  RESOLVER=ADDRESS  NETWORK=10.1.2.0/24
make test    format, lints, unit tests, and the Perl tests against a patched nginx
             STEPS="rust perl"  TESTS="t/FILE.t ..."  HARNESS=own|nginx  JOBS=2
             VALGRIND=1  ASAN=1
make soak    send one worker requests and CONNECTs, and look whether its memory grows
             COUNT=100000
make churn   open tunnels as fast as they go, kill workers and reload, and look whether all is counted right
             CHURN_SECONDS=60
make build   only build nginx with the module, below build/
make bench   what a tunnel costs, side by side with other proxies: 15 minutes, 2 cores
             PEERS="module stream ..."  ROUNDS=3  CONGESTION=bbr  OPENSSL=3.5
make bench-quick
             the same in 3 minutes, with fewer peers and less to go by
make bench-docs
             like bench, and writes the result into docs/performance.*
make suite   nginx's own tests: with the patch and the module as without
             NGINX_SOURCES=FOLDER, with nginx-tests.tar.gz in it, before nginx 1.19.5
             nginx-tests-2020.tar.gz
make suite-docs
             like suite, and writes the version's row of docs/nginx-suite.md
make compat  build and test each server of the matrix, and write
             docs/compatibility.md
             ROW=nginx-1.8.1-static  AGAIN=yes  JOBS=2  NGINX_SOURCES=FOLDER
make fuzz    let libFuzzer look for input that the parts without nginx can't take
             SECONDS_EACH=10
make guard-table
             as root: attack this module and squid, and write the table of docs/egress-guard.md
make deb     a package of the module for Debian's own nginx, in build/deb/
             SUITE=bullseye|bookworm|trixie, as root: for that release, in a root of it
make deb-test
             as root: install that package, use it, purge it
             SUITE=bullseye|bookworm|trixie
make rpm     a package for the nginx of nginx.org, or of RHEL and its like, in build/rpm/
             REPO=nginx.org|rhel  NGINX=1.28.3  MODULE=FILE.so
make rpm-test
             as root: make both, install them into an empty root, have an nginx take the module
make image   an image for docker and the like, of Debian's nginx with the module, in build/image/
             SUITE=bookworm|trixie
make image-test
             as root: run that image as it says itself, with good and bad values
make dist    files to download, in build/dist/: the module for each nginx of packaging/matrix
             NGINX=VERSION  ARCH=x86_64|aarch64  LIBC=glibc|musl  SIGN_WITH=KEY
make dist-test
             install.sh with all that it has to refuse; one file made in two clones
make dist-proof
             each file in an nginx that another build has configured, and the table of docs/packages.md
             ROW="debian-bookworm-x86_64 nginx.org-*"
make release-check
             whether this commit can be given out
make clean   remove build/ and target/

For run, test, build, bench, soak and suite: NGINX=VERSION (1.28.3 unless told, but for run),
CORE=patched|stock, and NGINX_SOURCES=FOLDER with nginx-VERSION.tar.gz in it; for run, test and build
LINK=dynamic|static;
without NGINX_SOURCES nginx 1.28.3 comes from the crate nginx-src.

To build the module into your own nginx, give its ./configure --add-module=PATH or
--add-dynamic-module=PATH with the path of this folder.
END
