#!/bin/bash
# Owns "make deb-test": the package is built, inspected, installed on this machine, used through the
# distribution's nginx, upgraded, removed and purged again. Nginx's own package may stay; the
# system's nginx is not started. SUITE=bullseye, bookworm or trixie: the same in a root of that release.

. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/services.sh"
. "$(dirname "$0")/checks.sh"

package=libnginx-mod-http-proxy-connect
nginx=/usr/sbin/nginx
snippet=/usr/share/nginx/modules-available/mod-http-proxy-connect.conf
link=/etc/nginx/modules-enabled/50-mod-http-proxy-connect.conf

scratch=$BUILD/deb-test
own_package=

# ports of 127.0.0.1
proxy=
tls_proxy=
no_proxy=
origin=
plain_origin=

need_for_deb_test() {
    need nginx test -x $nginx
    need lintian has_command lintian
    need binutils has_command readelf
    need curl has_command curl
    need openssl has_command openssl
}

# --- the machine

apt() {
    DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 "$@"
}

has_package() {
    dpkg-query -W -f='${db:Status-Status}' $package 2>/dev/null | grep -v -x -q not-installed
}

install_package() {
    own_package=1
    apt install --no-install-recommends "$deb"
}

stop() {
    local pid

    [ -f "$scratch/$1.pid" ] || return 0
    pid=$(cat "$scratch/$1.pid")
    kill "$pid"
    wait_until not kill -0 "$pid" 2>/dev/null
}

restore_machine() {
    set +e
    exec 4>&-
    stop proxy
    stop origin

    if [ -n "$own_package" ] && has_package; then
        apt purge $package > "$LOGS/deb-test-purge.log" 2>&1
    fi

    allow_services
}

# --- the package as a file

unpack() {
    rm -rf "$scratch/unpacked"
    dpkg-deb -x "$deb" "$scratch/unpacked"
    so=$scratch/unpacked/usr/lib/nginx/modules/$MODULE.so
    doc=$scratch/unpacked/usr/share/doc/$package
}

has_doc() {
    local file

    for file in README.md docs/directives.md README.Debian copyright changelog.gz changelog.Debian.gz; do
        [ -s "$doc/$file" ] || [ -s "$doc/$file.gz" ] || {
            echo "there is no $file"
            return 1
        }
    done
}

# nginx's package provides nginx-abi-VERSION, which ours depends on.
fits_nginx() {
    local depends abi

    depends=$(dpkg-deb -f "$deb" Depends)
    echo "Depends: $depends"

    # Debian 11's nginx does not tell its ABI: the version stands for it.
    if [[ $depends != *nginx-abi-* ]]; then
        [[ $depends == *"nginx-common (>= $nginx_version)"*"nginx-common (<< $nginx_version."* ]]
        return
    fi

    abi=$(grep -o 'nginx-abi-[^, ]*' <<< "$depends") || return 1
    dpkg-query -W -f='${Provides}\n' nginx | grep -w -F -- "$abi"
}

has_sections() {
    readelf -S -W "$so" | grep -E '\.symtab|\.debug'
}

names_build_folder() {
    grep -a -F -- "$ROOT" "$so"
}

# Whose code is in the module is named in the copyright file.
names_every_crate() {
    local crate crates

    crates=$(cargo tree --locked --edges normal,no-proc-macro --prefix none --format '{lib}' \
        | awk '{ print $1 }' | sort -u) || return 1
    [ -n "$crates" ] || return 1

    for crate in ${crates//_/[-_]}; do
        case $crate in
            "${MODULE//_/[-_]}" | proxy*connect*core) continue ;;
        esac

        grep -E -q "^Files:.* crates/$crate( |\$)" "$doc/copyright" || {
            echo "the copyright file does not name $crate"
            return 1
        }
    done
}

check_file() {
    step "The package as a file"

    check "lintian finds no error and no warning" lintian --fail-on error,warning "$deb"
    check "it unpacks" unpack
    check "it has the module" test -f "$so"
    check "it has README, copyright and both changelogs" has_doc
    check "it depends on the ABI of the nginx that is installed" fits_nginx
    check "the module is stripped" not has_sections
    check "the module does not name the folder it was built in" not names_build_folder
    check "the copyright file names every crate in the module" names_every_crate
}

# --- nginx

write_certificate() {
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 \
        -addext subjectAltName=IP:127.0.0.1 \
        -keyout "$scratch/key.pem" -out "$scratch/cert.pem" > "$LOGS/deb-test-openssl.log" 2>&1 \
        || die "openssl made no certificate; see $LOGS/deb-test-openssl.log"
}

# What both have: files in the scratch folder only.
common_conf() {
    cat <<CONF
worker_processes 1;
pid $scratch/$1.pid;
error_log $scratch/$1-error.log notice;
events {
}
http {
    ssl_certificate $scratch/cert.pem;
    ssl_certificate_key $scratch/key.pem;
    client_body_temp_path $scratch/$1-body;
    proxy_temp_path $scratch/$1-proxy;
    fastcgi_temp_path $scratch/$1-fastcgi;
    uwsgi_temp_path $scratch/$1-uwsgi;
    scgi_temp_path $scratch/$1-scgi;
CONF
}

# The server that the tunnels lead to, without any module. As root, since the scratch folder
# may lie below one that others can't enter.
write_origin() {
    mkdir -p "$scratch/www"
    head -c 33554432 /dev/urandom > "$scratch/www/file"

    {
        echo "user root;"
        common_conf origin
        cat <<CONF
    access_log off;
    client_max_body_size 0;

    server {
        listen 127.0.0.1:$origin ssl;
        listen 127.0.0.1:$plain_origin;
        root $scratch/www;
        dav_methods PUT;
    }
}
CONF
    } > "$scratch/origin.conf"
}

write_proxy() {
    {
        echo "user www-data;"
        echo "include /etc/nginx/modules-enabled/*.conf;"
        common_conf proxy
        cat <<CONF
    log_format connect '\$status \$request_method \$connect_addr';
    access_log $scratch/proxy-access.log connect;

    server {
        listen 127.0.0.1:$proxy;
        proxy_connect;
        proxy_connect_allow $origin $plain_origin;
        location / {
            return 200 \$pid;
        }
    }

    server {
        listen 127.0.0.1:$tls_proxy ssl;
        proxy_connect;
        proxy_connect_allow $origin;
    }

    server {
        listen 127.0.0.1:$proxy;
        listen 127.0.0.1:$no_proxy;
        server_name none.test;
        location / {
            return 200 \$pid;
        }
    }
}
CONF
    } > "$scratch/proxy.conf"
}

run_nginx() {
    # shellcheck disable=SC2046
    $nginx $(early_log $nginx) -c "$scratch/$1.conf" "${@:2}"
}

directives_are_unknown() {
    local answer

    answer=$(run_nginx proxy -t 2>&1) && return 1
    echo "$answer"
    [[ $answer == *'unknown directive "proxy_connect"'* ]]
}

is_enabled() {
    ls -l "$link" && [ "$(readlink "$link")" = $snippet ] && [ -f $snippet ]
}

upgrade_leaves_it_disabled() {
    rm "$link"
    apt install --reinstall "$deb" && ! [ -L "$link" ]
}

system_conf_loads_module() {
    $nginx -T 2>&1 | grep "^load_module modules/$MODULE.so;"
}

# --- through the tunnel

ask() {
    curl -q -sS --max-time 60 --noproxy '' --cacert "$scratch/cert.pem" \
        --proxy-cacert "$scratch/cert.pem" "$@"
}

# download PROXY
download() {
    rm -f "$scratch/got"
    ask -x "$1" -o "$scratch/got" "https://127.0.0.1:$origin/file" \
        && cmp "$scratch/got" "$scratch/www/file"
}

upload() {
    rm -f "$scratch/www/sent"
    ask -x "http://127.0.0.1:$proxy" -T "$scratch/www/file" "https://127.0.0.1:$origin/sent" \
        && cmp "$scratch/www/sent" "$scratch/www/file"
}

# connect_answers STATUS AUTHORITY
connect_answers() {
    local status

    # curl fails where the answer is no 2xx
    status=$(ask -x "http://127.0.0.1:$proxy" -o /dev/null -w '%{http_connect}' \
        "https://$2/") || true
    echo "answered: $status"
    [ "$status" = "$1" ]
}

many_over_tls() {
    local i

    for ((i = 0; i < 40; i++)); do
        ask -x "https://127.0.0.1:$tls_proxy" -o /dev/null "https://127.0.0.1:$origin/none" || {
            echo "the one that failed: $i"
            return 1
        }
    done
}

logged() {
    grep -x -F -- "$1" "$scratch/proxy-access.log"
}

worker() {
    ask "http://127.0.0.1:$1/"
}

proxy_answers_get() {
    [ -d "/proc/$(worker "$1")" ]
}

# A tunnel that stays open, on descriptor 4.
open_tunnel() {
    local line

    exec 4<>"/dev/tcp/127.0.0.1/$proxy" || return 1
    printf 'CONNECT 127.0.0.1:%s HTTP/1.1\r\nHost: x\r\n\r\n' "$plain_origin" >&4

    read -r -t 10 line <&4 || return 1
    echo "$line"
    [[ $line == 'HTTP/1.1 200 '* ]] || return 1

    while read -r -t 10 line <&4 && [ "$line" != $'\r' ]; do
        echo "$line"
    done
}

# The whole file through it, then its end.
use_tunnel() {
    printf 'GET /file HTTP/1.0\r\nHost: x\r\n\r\n' >&4
    timeout 60 sed '1,/^\r$/d' <&4 | cmp - "$scratch/www/file" || return 1
    exec 4>&-
}

has_other_worker() {
    local now

    now=$(worker "$proxy") && [ -n "$now" ] && [ "$now" != "$1" ]
}

worker_ended() {
    [ "$1" != none ] && ! kill -0 "$1" 2>/dev/null
}

# check_reload WHEN
check_reload() {
    local old

    check "a tunnel opens $1" open_tunnel
    old=$(worker "$proxy") || old=none
    check "nginx reloads $1" run_nginx proxy -s reload
    check "another worker serves then" wait_until has_other_worker "$old"
    check "the old worker stays for its tunnel" kill -0 "$old"
    check "32 MiB go through the tunnel from before the reload" use_tunnel
    check "the old worker ends with its tunnel" wait_until worker_ended "$old"
    check "32 MiB go through a new tunnel" download "http://127.0.0.1:$proxy"
}

bad_lines() {
    grep -E '\[(crit|alert|emerg)\]' "$scratch/proxy-error.log"
}

check_use() {
    step "Tunnels through the distribution's nginx"

    check "the server without the module starts" run_nginx origin
    check "nginx starts with the module" run_nginx proxy

    if ! [ -f "$scratch/proxy.pid" ]; then
        note "there is no proxy: the tunnels are not tried"
        return 0
    fi

    check "32 MiB down through a tunnel" download "http://127.0.0.1:$proxy"
    check "32 MiB up through a tunnel" upload
    check "32 MiB down through a tunnel of a TLS listener" download "https://127.0.0.1:$tls_proxy"
    check "40 tunnels of a TLS listener" many_over_tls
    check "a port that is not allowed: 403" connect_answers 403 "127.0.0.1:$tls_proxy"
    check "a server without proxy_connect: 405" connect_answers 405 "none.test:$origin"
    check "GET in the server with proxy_connect" proxy_answers_get "$proxy"
    check "GET in the server without" proxy_answers_get "$no_proxy"
    check "the access log has the tunnel" wait_until logged "200 CONNECT 127.0.0.1:$origin"
    check "the access log has the 403" wait_until logged "403 CONNECT -"
    check "the access log has the 405" wait_until logged "405 CONNECT -"

    check_reload "before the upgrade"

    # dpkg puts another file in the place of the one that runs.
    check "the package is installed over itself" apt install --reinstall "$deb"
    check "the snippet is still enabled" is_enabled
    check_reload "after the upgrade"

    check "the error log has nothing critical" not bad_lines
    check "the proxy stops" stop proxy
    check "the server stops" stop origin
}

# --- coming and going

purge_leaves() {
    find -L /etc/nginx /usr/lib/nginx /usr/share/nginx /usr/share/doc /var/lib/dpkg/info \
        -name '*proxy[-_]connect*' | grep .
}

check_installation() {
    step "Installation"

    check "nginx -t before" $nginx -t
    check "the directives are unknown before" directives_are_unknown
    check "apt installs the package" install_package
    check "the snippet is enabled" is_enabled
    check "the system's configuration loads the module" system_conf_loads_module
    check "nginx -t with the module" $nginx -t
    check "nginx -t with its directives" run_nginx proxy -t
}

check_removal() {
    step "Removal"

    check "an upgrade does not enable what was disabled by hand" upgrade_leaves_it_disabled
    ln -sf $snippet $link

    check "apt removes the package" apt remove $package
    check "the snippet is not enabled" not test -L $link
    check "nginx -t without it" $nginx -t
    check "apt installs it again" install_package
    check "the snippet is enabled again" is_enabled
    check "apt purges the package" apt purge $package
    check "nothing is left of it" not purge_leaves
    check "nginx -t after" $nginx -t
    check "the directives are unknown after" directives_are_unknown
}

is_root || die "run this as root: it installs a package"

SUITE=${SUITE:-}

if [ -n "$SUITE" ]; then
    exec script/debian-root.sh "$SUITE" env SUITE= script/deb-test.sh
fi

if has_package; then
    die "$package is on this machine already: apt-get purge $package, then run this again"
fi

trap restore_machine EXIT
trap 'exit 130' INT TERM
forbid_services

# shellcheck source=script/packages.sh
. script/packages.sh build deb_test

deb=$(script/deb.sh)
nginx_version=$($nginx -v 2>&1 | sed -n 's/.*nginx\/\([0-9.]*\).*/\1/p')

rm -rf "$scratch"
mkdir -p "$scratch"
find_ports proxy tls_proxy no_proxy origin plain_origin
write_certificate
write_origin
write_proxy

check_file
check_installation
check_use
check_removal

tell_result
