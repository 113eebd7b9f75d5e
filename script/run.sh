#!/bin/bash
# Owns "make run": a CONNECT proxy in the foreground on 127.0.0.1.

. "$(dirname "$0")/common.sh"

LINK=${LINK:-dynamic}
PORT=${PORT:-3128}
ALLOW=${ALLOW:-443 563}

prefix=$BUILD/run/$PORT
core=$(core_of "$NGINX_VERSION")
objs=$BUILD/nginx-$NGINX_VERSION-run-$LINK-$core/objs

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

write_conf() {
    mkdir -p "$prefix"

    cat > "$prefix/nginx.conf" <<END
# Written by "make run" each time: changes are lost.

daemon off;
worker_processes auto;
pid $prefix/nginx.pid;
error_log stderr info;
$(if [ "$LINK" = dynamic ]; then echo "load_module $objs/$MODULE.so;"; fi)

events {
}

http {
    log_format connect '\$remote_addr [\$time_local] "\$request" \$status \$bytes_sent '
                       '\$request_time "\$connect_addr"';
    access_log $access_log connect;

    server {
        listen 127.0.0.1:$PORT;
        resolver $RESOLVER;

        proxy_connect;
        proxy_connect_allow $ALLOW;
        proxy_connect_connect_timeout 10s;

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
script/nginx-build.sh "$NGINX_VERSION" run "$LINK" "$core"

find_access_log
write_conf

nginx=("$objs/nginx" -p "$prefix/" -c "$prefix/nginx.conf" -e stderr)

"${nginx[@]}" -t -q || die "nginx refuses $prefix/nginx.conf, for the reason it gives above;" \
    "it was written with RESOLVER=\"$RESOLVER\" and ALLOW=\"$ALLOW\""

step "A CONNECT proxy on 127.0.0.1:$PORT, for ports $ALLOW, with name server $RESOLVER"
note "configuration: $prefix/nginx.conf"
note "access log: $access_log"
note "Ctrl-C stops it. Try in another terminal:"
echo
echo "curl -v -x http://127.0.0.1:$PORT https://nginx.org/"
echo

exec "${nginx[@]}"
