#!/bin/bash
# Owns "make image-test": the image is made, unpacked and run by runc, as it says itself: not as root, on a
# read-only root file system, with no capability, in a network of the test's own.
#
# image-test.sh    IMAGE=FILE.tar takes one that is there; SUITE as for "make image"

. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/checks.sh"

MAX_SIZE=$((60 * 1024 * 1024))

scratch=$BUILD/image-test
bundle=$scratch/bundle
schemas=$BUILD/image-schemas
name=proxy-connect-test-$$

origin=8443
plain_origin=8080
parent=8888

need_for_image_test() {
    need umoci has_command umoci
    need runc has_command runc
    need nginx has_server nginx
    need curl has_command curl
    need openssl has_command openssl
    need iproute2 has_command ip
    need python3 has_command python3
    need python3-pip has_pip
}

# Schemas, from PyPI: of Kubernetes, and of the compose specification, which docker-compose has.
get_schemas() {
    python3 -m pip install --no-warn-script-location --upgrade --target "$schemas" kubernetes-validate==1.37.0 \
        && python3 -m pip install --no-deps --upgrade --target "$schemas" docker-compose==1.29.2
}

# --- the image as a file

unpack() {
    rm -rf "$scratch/layout" "$bundle"
    mkdir -p "$scratch/layout"
    tar -xf "$image" -C "$scratch/layout"
    tag=$(perl -MJSON::PP -e 'local $/; print decode_json(<>)->{manifests}[0]{annotations}{"org.opencontainers.image.ref.name"}' \
        "$scratch/layout/index.json")
    umoci unpack --image "$scratch/layout:$tag" "$bundle"
    mv "$bundle/config.json" "$bundle/config.json.unpacked"
    rootfs=$bundle/rootfs
}

blobs_are_what_they_are_called() {
    local blob

    for blob in "$scratch"/layout/blobs/sha256/*; do
        echo "${blob##*/}  $blob"
    done | sha256sum -c
}

# "docker load" of old goes by this one.
docker_finds_its_files() {
    perl -MJSON::PP -e 'local $/; my $image = decode_json(<>)->[0];
        print "$_\n" foreach $image->{Config}, @{$image->{Layers}}; print "$image->{RepoTags}[0]\n"' \
        "$scratch/layout/manifest.json" > "$scratch/named" || return 1
    cat "$scratch/named"

    [ -f "$scratch/layout/$(sed -n 1p "$scratch/named")" ] && [ -f "$scratch/layout/$(sed -n 2p "$scratch/named")" ] \
        && [[ $(sed -n 3p "$scratch/named") == proxy-connect:?* ]]
}

# config_has KEY VALUE
config_has() {
    local config value

    config=$(sed -n 1p "$scratch/named")
    value=$(perl -MJSON::PP -e 'local $/; my $value = decode_json(<STDIN>)->{config}{$ARGV[0]};
        print ref $value ? JSON::PP->new->canonical->encode($value) : $value' "$1" < "$scratch/layout/$config")
    echo "$1: $value"
    [[ $value == $2 ]]
}

writable_by_others() {
    find "$rootfs" -perm -o+w ! -type l ! -path "$rootfs/tmp" | grep .
}

has_privileged_file() {
    find "$rootfs" -type f -perm /6000 | grep . || getcap -r "$rootfs" 2>/dev/null | grep .
}

has_licences() {
    local package

    for package in "$rootfs"/var/lib/dpkg/status.d/*; do
        package=${package##*/}
        case $package in
            *.md5sums) continue ;;
            libgcc-s1) package=gcc-*-base ;;
        esac

        # shellcheck disable=SC2086
        [ -f "$(echo $rootfs/usr/share/doc/$package/copyright)" ] || {
            echo "no copyright file of $package"
            return 1
        }
    done
}

is_made_again() {
    cp "$image" "$scratch/first.tar"
    KEEP_PACKAGES=yes script/image.sh && cmp "$image" "$scratch/first.tar"
}

check_file() {
    step "The image as a file"

    check "it has less than 60 MiB" test "$(stat -c %s "$image")" -lt $MAX_SIZE
    check "umoci unpacks it" unpack
    check "each blob is what its name says" blobs_are_what_they_are_called
    check "it is one for docker load, too" docker_finds_its_files
    check "its user is a number, and not root" config_has User '[1-9]*:[1-9]*'
    check "it is stopped by SIGQUIT" config_has StopSignal SIGQUIT
    check "docker knows how to look after its health" config_has Healthcheck '*proxy-connect*--health*'
    check "no file can be written by others" not writable_by_others
    check "no file gives privileges" not has_privileged_file
    check "each package has its licence in it" has_licences
    [ -n "$own_image" ] || check "the same packages make the same file" is_made_again
}

# --- what is around the container

write_certificate() {
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=good.test \
        -addext subjectAltName=DNS:good.test,IP:127.0.0.1 \
        -keyout "$scratch/files/key.pem" -out "$scratch/files/cert.pem" > "$LOGS/image-test-openssl.log" 2>&1 \
        || die "openssl made no certificate; see $LOGS/image-test-openssl.log"
    chmod 644 "$scratch/files/key.pem"
}

write_files() {
    rm -rf "$scratch/files" "$scratch/www"
    mkdir -p "$scratch/files" "$scratch/www"
    head -c 8388608 /dev/urandom > "$scratch/www/file"
    printf 'nameserver fe80::1%%eth0\nnameserver 127.0.0.1\n' > "$scratch/resolv.conf"
    printf 'joe:%s\n' "$(openssl passwd -apr1 secret)" > "$scratch/files/htpasswd"
    printf 'good.test\n~^better\\.test$\n' > "$scratch/files/hosts"
    cp "$scratch/files/htpasswd" "$scratch/files/users"
    mkdir "$scratch/files/server.d" "$scratch/files/http.d"
    echo 'proxy_connect_response "HTTP/1.1 299 Mounted\r\n\r\n";' > "$scratch/files/server.d/response.conf"
    echo 'map $host $mounted { default yes; }' > "$scratch/files/http.d/map.conf"
    write_certificate
}

write_origin() {
    cat > "$scratch/origin.conf" <<CONF
user root;
worker_processes 1;
pid $scratch/origin.pid;
error_log $scratch/origin.log;
events {
}
http {
    access_log off;
    client_body_temp_path $scratch/temp;
    proxy_temp_path $scratch/temp;
    fastcgi_temp_path $scratch/temp;
    uwsgi_temp_path $scratch/temp;
    scgi_temp_path $scratch/temp;
    server {
        listen 127.0.0.1:$origin ssl;
        listen 127.0.0.1:$plain_origin;
        ssl_certificate $scratch/files/cert.pem;
        ssl_certificate_key $scratch/files/key.pem;
        root $scratch/www;
    }
}
CONF
}

# Its addresses: one of a private network, and one that no private network has.
make_network() {
    ip link set lo up
    ip address add 10.9.8.7/32 dev lo
    ip address add 192.0.2.9/32 dev lo
}

start_services() {
    perl script/image/name-server.pl 127.0.0.1 53 &
    helpers+=($!)
    perl script/image/parent.pl 127.0.0.1 $parent "$scratch/parent.log" &
    helpers+=($!)
    /usr/sbin/nginx -e "$scratch/origin.log" -c "$scratch/origin.conf"
}

clean_up() {
    set +e
    runc delete -f $name > /dev/null 2>&1
    [ ! -f "$scratch/origin.pid" ] || kill "$(cat "$scratch/origin.pid")"
    [ ${#helpers[@]} -eq 0 ] || kill "${helpers[@]}"
}

# --- the container

is_healthy() {
    [ "$(curl -q -s -m 2 --noproxy '*' http://127.0.0.1:8081/healthz)" = ok ]
}

is_running() {
    runc state $name 2>/dev/null | grep -q '"status": "running"'
}

# configure [WISH...]: those of bundle.pl
configure() {
    perl script/image/bundle.pl "$bundle/config.json" "$scratch/resolv.conf:/etc/resolv.conf" "$scratch/files:/files" \
        "$scratch/files:/secrets" "$@"
}

# start [WISH...]
start() {
    configure "$@" || return 1
    runc run --bundle "$bundle" $name > "$scratch/out.log" 2> "$scratch/err.log" </dev/null &
    container=$!
    wait_until is_healthy && return 0
    cat "$scratch/err.log"
    return 1
}

has_ended() {
    ! kill -0 "$container" 2>/dev/null
}

# Gone, and nothing went wrong in its life.
stop() {
    runc kill $name QUIT || return 1
    wait_until has_ended || return 1
    runc delete -f $name 2>/dev/null
    wait "$container" || return 1
    ! grep -E '\[(crit|alert|emerg)\]' "$scratch/err.log"
}

# refuses_to_start TEXT [WISH...]: with one line, that has the text
refuses_to_start() {
    local text=$1
    shift

    configure "$@" || return 1
    timeout 10 runc run --bundle "$bundle" $name > "$scratch/out.log" 2> "$scratch/err.log" </dev/null && return 1
    cat "$scratch/err.log"
    [ "$(wc -l < "$scratch/err.log")" -eq 1 ] && grep -q -F -e "$text" "$scratch/err.log"
}

# inside [VARIABLE=VALUE...] -- COMMAND...: in the container that runs
inside() {
    local variables=()

    while [ "$1" != -- ]; do
        variables+=(-e "$1")
        shift
    done

    runc exec "${variables[@]}" $name "${@:2}"
}

# --- through the proxy

ask() {
    curl -q -sS --max-time 30 --noproxy '' --cacert "$scratch/files/cert.pem" --proxy-cacert "$scratch/files/cert.pem" "$@"
}

# answers STATUS AUTHORITY [OPTION...]
answers() {
    local status

    # curl fails where the answer is no 2xx
    status=$(ask -x http://127.0.0.1:3128 -o /dev/null -w '%{http_connect}' "https://$2/" "${@:3}") || true
    echo "answered: $status"
    [ "$status" = "$1" ]
}

# downloads [OPTION...]
downloads() {
    rm -f "$scratch/got"
    ask -x http://127.0.0.1:3128 -o "$scratch/got" "$@" "https://127.0.0.1:$origin/file" && cmp "$scratch/got" "$scratch/www/file"
}

get_answers() {
    [ "$(ask -o /dev/null -w '%{http_code}' "$2")" = "$1" ]
}

# What the container wrote to its standard output, and to its standard error.
logged() {
    grep -q -E -e "$1" "$scratch/out.log"
}

# A tunnel that stays open, on descriptor 4.
open_tunnel() {
    local line

    exec 4<>/dev/tcp/127.0.0.1/3128 || return 1
    printf 'CONNECT 127.0.0.1:%s HTTP/1.1\r\nHost: x\r\n\r\n' $plain_origin >&4
    read -r -t 10 line <&4 || return 1
    echo "$line"
    [[ $line == 'HTTP/1.1 200 '* ]] || return 1
    while read -r -t 10 line <&4 && [ "$line" != $'\r' ]; do :; done
}

# The whole file through it, then its end.
use_tunnel() {
    printf 'GET /file HTTP/1.0\r\nHost: x\r\n\r\n' >&4
    timeout 30 sed '1,/^\r$/d' <&4 | cmp - "$scratch/www/file"
}

close_tunnel() {
    exec 4>&-
}

tunnel_ends() {
    timeout 10 cat <&4 | cmp - /dev/null
}

reach_origin=(ALLOW_ADDRESSES=127.0.0.1 "ALLOW_PORTS=$origin,$plain_origin")

# --- what is checked

check_defaults() {
    step "With no variable at all"

    check "it starts, and is healthy" start
    is_running || return 0

    check "it is not root" eval '[ "$(inside -- id -u)" = 65532 ]'
    check "its root file system can't be written" not inside -- touch /file
    check "its own look at its health" inside -- proxy-connect --health
    check "that fails where nobody answers" not inside HEALTH=9 -- proxy-connect --health
    check "127.0.0.1: 403" answers 403 127.0.0.1
    check "[::1]: 403" answers 403 '[::1]'
    check "10.9.8.7: 403" answers 403 10.9.8.7
    check "169.254.169.254: 403" answers 403 169.254.169.254
    check "a name that is 127.0.0.1: 403" answers 403 good.test
    check "a port that is not 443: 403" answers 403 good.test:25
    check "a client that comes from outside: 403" answers 403 good.test --interface 192.0.2.9
    check "GET is 403" get_answers 403 http://127.0.0.1:3128/
    check "no numbers unless asked for" get_answers 404 http://127.0.0.1:8081/metrics
    check "the log says why it refused" wait_until logged '"CONNECT 10.9.8.7:443 HTTP/1.1" 403 denied:address'
    check "the error log goes to standard error" grep -q 'denied by "proxy_connect_deny_address special"' "$scratch/err.log"
    check "SIGQUIT stops it" stop
}

check_tunnels() {
    step "Tunnels, and the end"

    check "it starts with an address that is let pass" start "${reach_origin[@]}" LOG_FORMAT=json STATUS=on
    is_running || return 0

    check "8 MiB through a tunnel" downloads
    check "others are refused still" answers 403 127.0.0.2:$origin
    check "numbers" eval 'ask http://127.0.0.1:8081/metrics | grep "^nginx_proxy_connect_tunnels_active"'
    check "the tunnels, for who is inside" get_answers 200 http://127.0.0.1:8081/tunnels
    check "not for others" eval '[ "$(ask -o /dev/null -w "%{http_code}" http://10.9.8.7:8081/tunnels)" = 403 ]'
    check "a log of JSON" wait_until logged '"verdict":"allowed".*"close_reason":"(client|upstream)_eof"'
    check "each line of it is" perl -MJSON::PP -ne 'decode_json($_)' "$scratch/out.log"
    check "what is shown is a configuration" inside "${reach_origin[@]}" STATUS=on -- \
        sh -c 'proxy-connect --print-config > /tmp/shown.conf && nginx -t -q -e stderr -c /tmp/shown.conf'

    check "a tunnel stands" open_tunnel
    check "SIGQUIT comes" runc kill $name QUIT
    check "nobody is taken any more" wait_until not is_healthy
    check "the tunnel goes on: 8 MiB" use_tunnel
    check "it ends" close_tunnel
    check "the container ends with it" wait_until has_ended
    check "with status 0" wait "$container"
    runc delete -f $name 2>/dev/null

    check "it starts with a short patience" start "${reach_origin[@]}" SHUTDOWN_TIMEOUT=500ms
    check "a tunnel stands" open_tunnel
    check "SIGQUIT comes" runc kill $name QUIT
    check "the tunnel is ended" tunnel_ends
    check "the container ends" wait_until has_ended
    check "the log says so" logged 'shutdown'
    close_tunnel
    runc delete -f $name 2>/dev/null
}

check_variables() {
    step "Each variable does what it says"

    check "ALLOW_HOSTS: it starts" start "${reach_origin[@]}" ALLOW_HOSTS=good.test
    check "ALLOW_HOSTS: the host" answers 200 good.test:$origin
    check "ALLOW_HOSTS: another" answers 403 other.test:$origin
    check "it stops" stop

    check "ALLOW_HOSTS, a file: it starts" start "${reach_origin[@]}" ALLOW_HOSTS=file:/files/hosts DENY_HOSTS=good.test
    check "ALLOW_HOSTS, a file: a regular expression" answers 200 better.test:$origin
    check "DENY_HOSTS" answers 403 good.test:$origin
    check "it stops" stop

    check "HTPASSWD: it starts" start "${reach_origin[@]}" "HTPASSWD=$(cat "$scratch/files/htpasswd")"
    check "HTPASSWD: no password" answers 407 127.0.0.1:$origin
    check "HTPASSWD: a wrong one" answers 407 127.0.0.1:$origin --proxy-user joe:other
    check "HTPASSWD: the right one" answers 200 127.0.0.1:$origin --proxy-user joe:secret
    check "HTPASSWD: who it was is in the log" wait_until logged ' joe "CONNECT .* 200 '
    check "HTPASSWD: only the container's user can read it" eval '[ "$(inside -- stat -c %a /tmp/proxy-connect/htpasswd)" = 600 ]'
    check "it stops" stop

    check "HTPASSWD, a file: it starts" start "${reach_origin[@]}" HTPASSWD=/files/htpasswd
    check "HTPASSWD, a file: the right one" answers 200 127.0.0.1:$origin --proxy-user joe:secret
    check "it stops" stop

    check "ALLOW_CLIENTS: it starts" start "${reach_origin[@]}" ALLOW_CLIENTS=192.0.2.0/24
    check "ALLOW_CLIENTS: one of them" answers 200 127.0.0.1:$origin --interface 192.0.2.9
    check "ALLOW_CLIENTS: another" answers 403 127.0.0.1:$origin
    check "it stops" stop

    check "TLS_CERTIFICATE, files: it starts" start "${reach_origin[@]}" TLS_CERTIFICATE=/files/cert.pem TLS_CERTIFICATE_KEY=/files/key.pem
    check "TLS_CERTIFICATE, files: 8 MiB" downloads -x https://127.0.0.1:3128
    check "it stops" stop

    check "TLS_CERTIFICATE, content: it starts" start "${reach_origin[@]}" "TLS_CERTIFICATE=$(cat "$scratch/files/cert.pem")" \
        "TLS_CERTIFICATE_KEY=$(cat "$scratch/files/key.pem")" TLS_CLIENT_CA=/files/cert.pem
    check "TLS_CLIENT_CA: no certificate" not downloads -x https://127.0.0.1:3128
    check "TLS_CLIENT_CA: one" downloads -x https://127.0.0.1:3128 --proxy-cert "$scratch/files/cert.pem" --proxy-key "$scratch/files/key.pem"
    check "it stops" stop

    check "PARENT: it starts" start PARENT=127.0.0.1:$parent 'PARENT_AUTH=joe:a$b"c\d{e;'
    check "PARENT: its answer is not a tunnel" answers 502 good.test
    check "PARENT: it was asked" grep -q '^CONNECT good.test:443 HTTP/1.1' "$scratch/parent.log"
    check "PARENT_AUTH: every character of it" grep -q -F "Basic $(printf '%s' 'joe:a$b"c\d{e;' | base64)" "$scratch/parent.log"
    check "PARENT_AUTH: it is not shown" not eval 'inside "PARENT=127.0.0.1:1" "PARENT_AUTH=joe:secret" -- proxy-connect --print-config | grep secret'
    check "it stops" stop

    check "LISTEN, HEALTH: it starts" start "${reach_origin[@]}" 'LISTEN=127.0.0.1:3200 [::1]:3201' LOG_FORMAT=off
    check "LISTEN: an address" downloads -x http://127.0.0.1:3200
    check "LISTEN: one of IPv6" downloads -x 'http://[::1]:3201'
    check "LISTEN: not elsewhere" not downloads
    check "LOG_FORMAT=off" test ! -s "$scratch/out.log"
    check "it stops" stop

    check "files in server.d and http.d: it starts" start "${reach_origin[@]}" HTPASSWD=/files/htpasswd \
        "$scratch/files/server.d:/etc/nginx/server.d" "$scratch/files/http.d:/etc/nginx/http.d"
    check "files in server.d" answers 299 127.0.0.1:$origin --proxy-user joe:secret
    printf 'ann:%s\n' "$(openssl passwd -apr1 other)" > "$scratch/files/htpasswd"
    check "SIGHUP comes" runc kill $name HUP
    check "it has nginx read files anew" wait_until answers 299 127.0.0.1:$origin --proxy-user ann:other
    check "joe is not among them any more" answers 407 127.0.0.1:$origin --proxy-user joe:secret
    check "it stops" stop

    check "another user, of group 0: it starts" start user=1000680000 "${reach_origin[@]}"
    check "another user: 8 MiB" downloads
    check "it stops" stop
}

# good VARIABLE=VALUE LINE: it becomes that line of the configuration, which nginx takes
good() {
    local shown

    shown=$(inside "$1" -- proxy-connect --print-config) || return 1
    echo "$shown" | tr -s ' ' | grep -x -F -e " $2" -e "$2" || {
        echo "there is no line \"$2\" in:"
        echo "$shown"
        return 1
    }
    inside "$1" -- proxy-connect --check
}

# bad VARIABLE=VALUE [TEXT]: one sentence names the variable and the value
bad() {
    local answer

    answer=$(inside "$1" -- proxy-connect --print-config 2>&1) && return 1
    echo "$answer"
    [ "$(echo "$answer" | wc -l)" -eq 1 ] && [[ $answer == 'proxy-connect: '*"${1%%=*}"* && $answer == *"${2-${1#*=}}"* ]]
}

check_values() {
    local value

    step "Each variable, with good and bad values"

    check "it starts" start
    is_running || return 0

    while IFS='|' read -r variable line; do
        check "good: $variable" good "$variable" "$line"
    done < <(grep -v '^#' script/image/good)

    while IFS= read -r variable; do
        check "bad: $variable" bad "$variable"
    done < <(grep -v '^#' script/image/bad)

    # What is never shown, and what is not on one line.
    check "bad: HTPASSWD with a password as it is" bad HTPASSWD=joe:secret "line 1"
    check "bad: HTPASSWD, and it is not shown" not eval 'inside HTPASSWD=joe:secret -- proxy-connect --print-config 2>&1 | grep secret'
    check "bad: HTPASSWD with a directive" bad $'HTPASSWD=joe:$apr1$x\ninclude /etc/passwd;' "line 2"
    check "bad: a second line" bad $'ALLOW_HOSTS=good.test\ninclude;' "good.test?include;"
    check "bad: TLS_CERTIFICATE without a key" bad TLS_CERTIFICATE=/files/cert.pem "needs TLS_CERTIFICATE_KEY"
    check "bad: TLS_CERTIFICATE_KEY alone" bad TLS_CERTIFICATE_KEY=/files/key.pem "needs TLS_CERTIFICATE"
    check "bad: a variable ALLOW_HOST" bad ALLOW_HOST=good.test "there is no variable"
    check "bad: a variable ALLOW_PORT" bad ALLOW_PORT=443 "there is no variable"
    check "good: one that is Kubernetes'" good PARENT_PORT=tcp://192.0.2.1:3128 "proxy_connect_allow 443;"
    check "bad: a variable DENY_PORTS" bad DENY_PORTS=25 "there is no variable"
    check "bad: a variable HTPASSWD_FILE" bad HTPASSWD_FILE=/files/htpasswd "there is no variable"
    check "bad: a key that is none" eval '! inside TLS_CERTIFICATE=/files/cert.pem TLS_CERTIFICATE_KEY=/files/hosts -- proxy-connect --check'
    check "bad: PARENT_AUTH without a name" eval '! inside PARENT=127.0.0.1:1 PARENT_AUTH=secret -- proxy-connect --check'
    check "an empty value is the default" good DENY_ADDRESSES= "proxy_connect_deny_address special;"
    check "an unknown option" not inside -- proxy-connect --what
    check "help" eval 'inside -- proxy-connect --help | grep -e --print-config'
    check "another command" inside -- proxy-connect true
    check "nginx is unharmed" is_healthy
    check "it stops" stop

    check "no place to write: one sentence" refuses_to_start "can't write to /tmp" tmp=no
    check "a bad value: one sentence" refuses_to_start 'ALLOW_PORTS is "443; include /etc/passwd"' "ALLOW_PORTS=443; include /etc/passwd"
    check "no name server: one sentence" refuses_to_start "set RESOLVER=ADDRESS" "$scratch/files/hosts:/etc/resolv.conf"
}

manifests() {
    PYTHONPATH=$schemas python3 script/image/manifests.py "$@"
}

# image_takes_environment FILE
image_takes_environment() {
    local variables

    mapfile -t variables < <(manifests environment "$1")
    [ ${#variables[@]} -gt 0 ] && inside "${variables[@]}" -- proxy-connect --check
}

# What docs/image.md has, the entrypoint reads, and the other way round.
documents_variables() {
    sed -n 's/^| \(`[^|]*`\) |.*/\1/p' docs/image.md | grep -o '[A-Z_]\{4,\}' | sort -u > "$scratch/documented"
    {
        grep -o '[$]{[A-Z_]\{4,\}:-' packaging/image/entrypoint.sh
        grep -o '^ *set_time [A-Z_]*' packaging/image/entrypoint.sh
    } | grep -o '[A-Z_]\{4,\}' | sort -u > "$scratch/read"
    diff "$scratch/documented" "$scratch/read"
}

check_manifests() {
    step "compose.yaml and kubernetes.yaml, docs/image.md"

    check "every variable is documented, and no other" documents_variables

    check "they are what their schemas say, and fit the image" manifests check "$(module_version)"
    check "it starts" start
    check "it takes the environment of compose.yaml" image_takes_environment packaging/compose.yaml
    check "it takes the environment of kubernetes.yaml" image_takes_environment packaging/kubernetes.yaml
    check "it has the command of preStop" inside -- sleep 0
    check "it stops" stop
}

is_root || die "run this as root: it starts containers"

if [ "${1:-}" != in-own-network ]; then
    # shellcheck source=script/packages.sh
    . script/packages.sh image_test
    [ -f "$schemas/compose/config/compose_spec.json" ] || run_logged image-schemas get_schemas \
        || die "pip can't get the schemas of compose and Kubernetes"
    own_image=${IMAGE:-}
    image=${IMAGE:-$(script/image.sh)}
    [ -f "$image" ] || die "IMAGE is \"$image\": there is no such file"
    exec unshare --net "$0" in-own-network "$(realpath "$image")" "$own_image"
fi

image=$2
own_image=$3
helpers=()
trap clean_up EXIT
trap 'exit 130' INT TERM

mkdir -p "$scratch"
rm -f "$scratch/parent.log"
make_network
write_files
write_origin
start_services

check_file
check_defaults
check_tunnels
check_variables
check_values
check_manifests

tell_result
