# Owns the commands of the project; each is one script under script/.

# the version of an nginx to build from source, 1.28.3 if empty; "make run" takes the distribution's
# own nginx then, where that can be had
NGINX ?=
# how the module gets into nginx: dynamic or static
LINK ?= dynamic
# the core: patched, or stock as released; by default patched where the patch applies
CORE ?=
# which library the Perl tests use: own (t/harness) or nginx (from $NGINX_SOURCES/nginx-tests.tar.gz)
HARNESS ?= own
# what "make test" does: rust (fmt, clippy, cargo test), perl (the tests in t/)
STEPS ?= rust perl
# the Perl tests with nginx under valgrind if not empty, which takes long
VALGRIND ?=
# the Perl tests with an nginx that AddressSanitizer watches, if not empty
ASAN ?=
# the Perl tests to run, all if empty, and how many at once
TESTS ?=
JOBS ?= 2
# where "make run" listens, which ports it allows, its name servers (the system's if empty), networks of
# your own that it may reach, as 10.1.2.0/24
NETWORK ?=
PORT ?= 3128
ALLOW ?= 443 563
RESOLVER ?=
# "make bench": the peers that take part, by name, all if empty; how many rounds, 3 if empty; TCP's
# congestion control, one that does not pace if empty
PEERS ?=
ROUNDS ?=
CONGESTION ?=
# the OpenSSL that its peers load, built from the crate openssl-src, as 3.5; this machine's own if empty
OPENSSL ?=
# how many requests, and how many CONNECTs, "make soak" sends
COUNT ?= 100000
# for how many seconds "make churn" opens tunnels, 60 if empty
CHURN_SECONDS ?=
# how long the bench watches a rate, in seconds, 10 if empty
RATE_SECONDS ?=
# a folder with nginx-VERSION.tar.gz; if empty, nginx comes from the crate nginx-src
NGINX_SOURCES ?=
# how many seconds "make fuzz" gives to each target, 10 if empty
SECONDS_EACH ?=
# the release of Debian that "make deb" and "make image" are for: this machine's, and bookworm, if empty
SUITE ?=
# whose nginx "make rpm" is for: nginx.org or rhel; and the module to pack, one is built if empty
REPO ?=
MODULE ?=

# the processors and C libraries that "make dist" makes files for, all if empty
ARCH ?=
LIBC ?=
# the key that gpg signs their sums with, no signature if empty
SIGN_WITH ?=
# rows of "make compat" by name or pattern, all if empty
ROW ?=

export LINK CORE HARNESS STEPS VALGRIND ASAN TESTS JOBS PORT ALLOW RESOLVER NETWORK PEERS ROUNDS
export CONGESTION OPENSSL COUNT NGINX_SOURCES ROW SECONDS_EACH CHURN_SECONDS RATE_SECONDS SUITE REPO ARCH LIBC SIGN_WITH
export MODULE_FILE = $(MODULE)

# An nginx takes a variable NGINX in its environment for a list of sockets to inherit.
unexport NGINX
export NGINX_VERSION = $(NGINX)

# The scripts call make themselves and say how many jobs it gets.
unexport MAKEFLAGS MFLAGS MAKELEVEL

.PHONY: help run test build bench bench-quick bench-docs soak churn suite suite-docs compat fuzz guard-table
.PHONY: deb deb-test rpm rpm-test image image-test dist dist-test dist-proof release-check clean

help:
	@script/help.sh

run:
	@script/run.sh

test:
	@script/test.sh

build:
	@script/build.sh

bench:
	@script/bench.sh

bench-quick:
	@script/bench.sh quick

bench-docs:
	@script/bench.sh docs

soak:
	@script/soak.sh

churn:
	@script/churn.sh

# nginx's own tests, with the module as without; suite-docs writes the version's row of the table
suite:
	@script/nginx-suite.sh

suite-docs:
	@script/nginx-suite.sh docs

fuzz:
	@script/fuzz.sh

guard-table:
	@script/guard-table.sh

deb:
	@script/deb.sh

deb-test:
	@script/deb-test.sh

rpm:
	@script/rpm.sh

rpm-test:
	@script/rpm-test.sh

image:
	@script/image.sh

image-test:
	@script/image-test.sh

# files to download, with the module for each nginx that people run
dist:
	@script/dist.sh

# install.sh, and one file made in two clones
dist-test:
	@script/dist-test.sh

# each file in an nginx that another build has configured; writes the table of docs/packages.md
dist-proof:
	@script/dist-proof.sh

release-check:
	@script/release-check.sh

# every server: ROW=nginx-1.8.1-static for one
compat:
	@script/compat.sh

clean:
	rm -rf build target
