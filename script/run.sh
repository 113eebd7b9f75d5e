#!/bin/bash
# Owns "make run": a CONNECT proxy in the foreground on 127.0.0.1. It is the distribution's nginx with
# the module, or one built from source where a version, sources, a core or LINK=static is asked for,
# or the distribution has none for modules.

# What the caller asks for, before common.sh fills it in.
asked_for=${NGINX_VERSION:-}${NGINX_SOURCES:-}${CORE:-}

. "$(dirname "$0")/common.sh"

LINK=${LINK:-dynamic}
PORT=${PORT:-3128}
ALLOW=${ALLOW:-443 563}

prefix=$BUILD/run/$PORT

check_port() {
    case $PORT in
        '' | *[!0-9]* | ??????*) die "PORT is \"$PORT\": it must be a number from 1 to 65535" ;;
    esac

    if [ "$PORT" -lt 1 ] || [ "$PORT" -gt 65535 ]; then
        die "PORT is \"$PORT\": it must be a number from 1 to 65535"
    fi

    local failure
    failure=$(perl -MIO::Socket::INET -e '
        IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => $ARGV[0], Listen => 1,
                              ReuseAddr => 1) or print "$!"' "$PORT")

    case $failure in
        '') ;;
        *'in use'*)
            die "127.0.0.1:$PORT is in use: stop what listens there (ss -ltnp shows it), or take" \
                "another port with make run PORT=$((PORT < 65535 ? PORT + 1 : 3128))"
        ;;
        *) die "can't listen on 127.0.0.1:$PORT: $failure; take another port with make run PORT=3128" ;;
    esac
}

# The name servers as nginx's resolver wants them; it can't use an address with a zone.
system_resolvers() {
    awk '$1 == "nameserver" && $2 !~ /%/ {
             printf "%s%s", separator, $2 ~ /:/ ? "[" $2 "]" : $2
             separator = " "
         }' /etc/resolv.conf 2>/dev/null || true
}

find_resolvers() {
    RESOLVER=${RESOLVER:-}

    if [ -z "$RESOLVER" ]; then
        RESOLVER=$(system_resolvers)
    fi

    if [ -z "$RESOLVER" ]; then
        die "/etc/resolv.conf names no name server that nginx can use: name one with" \
            "make run RESOLVER=ADDRESS"
    fi
}

# Sets access_log. Standard output may be what nginx can't open anew: a socket, another user's file.
find_access_log() {
    access_log=/dev/stdout

    if ! (: >> /dev/stdout) 2>/dev/null; then
        access_log=$prefix/access.log
    fi
}

is_offered() {
    # Not "grep -q", which may end before apt-cache has written all.
    apt-cache policy nginx-dev 2>/dev/null | grep 'Candidate: [0-9]' >/dev/null
}

# The distribution's nginx, with what modules for it are built from, is here or can be installed.
can_have_distribution() {
    [ -x /usr/sbin/nginx ] && [ -f /usr/share/nginx/src/conf_flags ] && return 0

    has_command apt-get || return 1
    is_offered && return 0

    # A fresh system has no list of packages yet.
    local sudo=()
    is_root || sudo=(sudo)
    is_root || has_command sudo || return 1
    run_logged apt-update "${sudo[@]}" apt-get -q update && is_offered
}

take_distribution() {
    step "The module for the distribution's nginx; make run NGINX=$NGINX_VERSION builds nginx from source"
    binary=/usr/sbin/nginx
    module=$(script/debian-nginx.sh)
}

build_nginx() {
    local core tree
    core=$(core_of "$NGINX_VERSION")
    tree=$BUILD/nginx-$NGINX_VERSION-run-$LINK-$core

    script/nginx-build.sh "$NGINX_VERSION" run "$LINK" "$core"

    binary=$tree/objs/nginx
    module=

    if [ "$LINK" = dynamic ]; then
        module=$tree/objs/$MODULE.so
    fi
}

# Sets binary, and module unless it is linked in.
find_nginx() {
    if [ -z "$asked_for" ] && [ "$LINK" = dynamic ] && can_have_distribution; then
        take_distribution
    else
        build_nginx
    fi
}

write_conf() {
    mkdir -p "$prefix"

    cat > "$prefix/nginx.conf" <<END
# Written by "make run" each time: changes are lost.

daemon off;
worker_processes auto;
pid $prefix/nginx.pid;
error_log stderr info;
${module:+load_module $module;}

events {
}

http {
    log_format connect '\$remote_addr [\$time_local] "\$request" \$status \$bytes_sent '
                       '\$request_time "\$connect_addr"';
    access_log $access_log connect;

    client_body_temp_path $prefix/temp;
    proxy_temp_path $prefix/temp;
    fastcgi_temp_path $prefix/temp;
    uwsgi_temp_path $prefix/temp;
    scgi_temp_path $prefix/temp;

    server {
        listen 127.0.0.1:$PORT;
        resolver $RESOLVER;

        proxy_connect;
        proxy_connect_allow $ALLOW;
        proxy_connect_connect_timeout 10s;

        # Nothing inside, but for networks that the user named.
        ${NETWORK:+proxy_connect_allow_address $NETWORK;}
        proxy_connect_deny_address special;

        location / {
            default_type text/plain;
            return 200 "curl -v -x http://127.0.0.1:$PORT https://nginx.org/\n";
        }
    }
}
END
}

find_resolvers
require_cargo
script/packages.sh build run
check_port
find_nginx
find_access_log
write_conf

# shellcheck disable=SC2207
nginx=("$binary" -p "$prefix/" -c "$prefix/nginx.conf" $(early_log "$binary"))

"${nginx[@]}" -t -q || die "nginx refuses $prefix/nginx.conf, for the reason it gives above;" \
    "it was written with RESOLVER=\"$RESOLVER\" and ALLOW=\"$ALLOW\""

step "A CONNECT proxy on 127.0.0.1:$PORT, for ports $ALLOW, with name server $RESOLVER"
note "nginx: $binary"
note "configuration: $prefix/nginx.conf"
note "access log: $access_log"
note "Ctrl-C stops it. Try in another terminal:"
echo
echo "curl -v -x http://127.0.0.1:$PORT https://nginx.org/"
echo

exec "${nginx[@]}"
