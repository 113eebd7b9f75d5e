#!/bin/sh
# Owns the way from the container's environment to nginx.conf: each value is checked, and goes into
# one template. docs/image.md has the variables.
#
# proxy-connect                  starts nginx in place of this shell
# proxy-connect --print-config   shows the configuration
# proxy-connect --check          has nginx check it
# proxy-connect --health         asks the one that runs whether it answers
# proxy-connect COMMAND...       runs something else

# "local" is the one thing here that POSIX does not have; every sh of today does.

# No pattern of a value is ever expanded to names of files.
set -efu
umask 077
export LC_ALL=C

TEMPLATE=/etc/nginx/nginx.conf.template
STATE=/tmp/proxy-connect
CONF=$STATE/nginx.conf
AUTHORITIES=/etc/ssl/certs/ca-certificates.crt

NL='
'
TAB=$(printf '\t')
SEPARATORS=" ,$TAB$NL"

PRIVATE="127.0.0.0/8 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 169.254.0.0/16 100.64.0.0/10 ::1 fc00::/7 fe80::/10"

die() {
    printf 'proxy-connect: %s\n' "$*" >&2
    exit 1
}

# refuse NAME VALUE TEXT: a value on one line, whatever is in it
refuse() {
    die "$1 is \"$(shown "$2")\": $3"
}

shown() {
    printf '%s' "$1" | tr -c ' -~' '?'
}

# --- what a value can be

# is_made_of VALUE SET: every character is of the set, in the notation of the shell's patterns
is_made_of() {
    # shellcheck disable=SC2254
    case $1 in
        '' | *[!$2]*) return 1 ;;
    esac
}

# is_number VALUE FIRST LAST: without zeros in front, which some read as octal
is_number() {
    case $1 in
        0?*) return 1 ;;
    esac
    is_made_of "$1" 0-9 && [ "${#1}" -le 9 ] && [ "$1" -ge "$2" ] && [ "$1" -le "$3" ]
}

is_port() {
    is_number "$1" 1 65535
}

is_port_or_range() {
    case $1 in
        *-*) is_port "${1%%-*}" && is_port "${1#*-}" && [ "${1%%-*}" -le "${1#*-}" ] ;;
        *) is_port "$1" ;;
    esac
}

# As nginx takes it: 500ms, 10s, 5m, 1h, and a bare number of seconds.
is_time() {
    case $1 in
        *ms) is_number "${1%ms}" 0 999999999 ;;
        *[smhd]) is_number "${1%?}" 0 999999 ;;
        *) is_number "$1" 0 999999999 ;;
    esac
}

is_ipv4() {
    local octet old=$IFS

    case $1 in
        .* | *. | *..*) return 1 ;;
    esac
    is_made_of "$1" 0-9. || return 1

    IFS=.
    # shellcheck disable=SC2086
    set -- $1
    IFS=$old

    [ $# -eq 4 ] || return 1
    for octet in "$@"; do
        is_number "$octet" 0 255 && [ "${#octet}" -le 3 ] || return 1
    done
}

is_ipv6() {
    local group groups=0 compressed='' old=$IFS

    case $1 in
        *:::* | *::*::* | *[!0-9a-fA-F:.]* | :[!:]* | *[!:]:) return 1 ;;
        *:*:*) ;;
        *) return 1 ;;
    esac

    case $1 in
        *::*) compressed=yes ;;
    esac

    IFS=:
    # shellcheck disable=SC2086
    set -- $1
    IFS=$old

    for group in "$@"; do
        case $group in
            '') ;;
            *.*) is_ipv4 "$group" || return 1; groups=$((groups + 2)) ;;
            *) [ "${#group}" -le 4 ] || return 1; groups=$((groups + 1)) ;;
        esac
    done

    if [ -n "$compressed" ]; then
        [ "$groups" -le 7 ]
    else
        [ "$groups" -eq 8 ]
    fi
}

is_address() {
    is_ipv4 "$1" || is_ipv6 "$1"
}

# An address, or one with the length of a prefix.
is_network() {
    case $1 in
        */*)
            if is_ipv4 "${1%%/*}"; then
                is_number "${1#*/}" 0 32
            else
                is_ipv6 "${1%%/*}" && is_number "${1#*/}" 0 128
            fi
        ;;
        *) is_address "$1" ;;
    esac
}

# The path of a file that can be read, with no character that nginx.conf would take for its own.
is_file() {
    case $1 in
        /*) is_made_of "$1" 'A-Za-z0-9_./@%+=:,-' && [ -f "$1" ] && [ -r "$1" ] ;;
        *) return 1 ;;
    esac
}

is_list_file() {
    case $1 in
        file:*) is_file "${1#file:}" ;;
        *) return 1 ;;
    esac
}

is_name() {
    is_made_of "$1" A-Za-z0-9._- && [ "${#1}" -le 253 ]
}

# A host's name, all names below one, an address, or a file with such.
is_host() {
    case $1 in
        file:*) is_list_file "$1" ;;
        '*.'*) is_name "${1#??}" ;;
        '['*']') is_authority "$1" ;;
        *:*) is_ipv6 "$1" ;;
        *) is_name "$1" ;;
    esac
}

is_destination() {
    case $1 in
        loopback | private | linklocal | shared | multicast | reserved | self | special | all) ;;
        file:*) is_list_file "$1" ;;
        *) is_network "$1" ;;
    esac
}

# ADDRESS or [ADDRESS] or NAME, with or without a port.
is_authority() {
    local host=$1

    case $1 in
        '['*']') host=${1#?}; is_ipv6 "${host%?}" ;;
        '['*']:'*) host=${1%]:*}; is_ipv6 "${host#?}" && is_port "${1##*]:}" ;;
        *:*) is_name "${1%%:*}" && is_port "${1#*:}" ;;
        *) is_name "$1" ;;
    esac
}

is_listen() {
    local host

    case $1 in
        '['*']:'*) host=${1%]:*}; is_ipv6 "${host#?}" && is_port "${1##*]:}" ;;
        '*:'*) is_port "${1#??}" ;;
        *:*) is_ipv4 "${1%%:*}" && is_port "${1#*:}" ;;
        *) is_port "$1" ;;
    esac
}

is_resolver() {
    case $1 in
        ipv6=on | ipv6=off | ipv4=on | ipv4=off) ;;
        valid=*) is_time "${1#valid=}" ;;
        '['*) is_authority "$1" ;;
        *:*) is_ipv4 "${1%%:*}" && is_port "${1#*:}" ;;
        *) is_ipv4 "$1" ;;
    esac
}

# --- from a variable to a line

# each NAME VALUE TEST TEXT: prints the words of a list, each of which passes the test
each() {
    local word words='' name=$1 value=$2 test=$3 text=$4

    local IFS="$SEPARATORS"
    # shellcheck disable=SC2086
    set -- $value
    IFS=' '

    for word in "$@"; do
        # What lies between two separators, a comma and a space, is no word.
        [ -n "$word" ] || continue
        "$test" "$word" || refuse "$name" "$value" "$text; \"$(shown "$word")\" is none"
        words="$words${words:+ }$word"
    done

    [ -n "$words" ] || refuse "$name" "$value" "$text, and it has none"
    printf '%s' "$words"
}

# one NAME VALUE TEXT TEST ARGUMENT...: the whole value passes the test
one() {
    local name=$1 value=$2 text=$3 test=$4
    shift 4

    "$test" "$value" "$@" || refuse "$name" "$value" "it must be $text"
    printf '%s' "$value"
}

is_one_of() {
    local value=$1 choice
    shift

    for choice in "$@"; do
        [ "$value" != "$choice" ] || return 0
    done

    return 1
}

# add LINES LINE: with the indentation of the template's blocks
add() {
    printf '%s%s%s' "$1" "${1:+$NL        }" "$2"
}

# A guard with a wrong name is none: what begins as ours has to be ours, but for what Kubernetes puts into each
# container about each service.
check_names() {
    local name value

    for name in $(awk 'BEGIN { for (name in ENVIRON) print name }'); do
        case $name in
            *[!A-Z0-9_]* | *_SERVICE_* | *_PORT_*) ;;
            ALLOW_PORTS | ALLOW_HOSTS | ALLOW_ADDRESSES | ALLOW_CLIENTS) ;;
            DENY_HOSTS | DENY_ADDRESSES | HTPASSWD) ;;
            TLS_CERTIFICATE | TLS_CERTIFICATE_KEY | TLS_CLIENT_CA) ;;
            PARENT | PARENT_AUTH | PARENT_CA) ;;
            ALLOW_* | DENY_* | HTPASSWD_* | TLS_* | PARENT_*)
                eval "value=\$$name"
                case $name=$value in
                    *_PORT=tcp://* | *_PORT=udp://* | *_PORT=sctp://*) ;;
                    *) die "there is no variable $name: docs/image.md has those that begin like it" ;;
                esac
            ;;
        esac
    done
}

# Those of /etc/resolv.conf; nginx can't use an address with a zone.
system_resolvers() {
    awk '$1 == "nameserver" && $2 !~ /%/ {
             printf "%s%s", separator, $2 ~ /:/ ? "[" $2 "]" : $2
             separator = " "
         }' /etc/resolv.conf 2>/dev/null || true
}

set_resolver() {
    RESOLVER=${RESOLVER:-$(system_resolvers)}
    [ -n "$RESOLVER" ] || die "/etc/resolv.conf names no name server that nginx can use: set RESOLVER=ADDRESS"

    RESOLVER=$(each RESOLVER "$RESOLVER" is_resolver "each must be the address of a name server, an IPv6 one in brackets, or valid=TIME, ipv6=off, ipv4=off")
}

has_ipv6() {
    grep -q . /proc/net/if_inet6 2>/dev/null
}

LISTENERS="each must be a port, ADDRESS:PORT, or [ADDRESS]:PORT"

# listen_lines NAME VALUE PARAMETERS: a bare port is one of IPv4, and of IPv6 where there is any.
listen_lines() {
    local word words lines=''

    words=$(each "$1" "$2" is_listen "$LISTENERS") || exit 1

    for word in $words; do
        lines=$(add "$lines" "listen $word$3;")
        case $word in
            *:*) ;;
            *) ! has_ipv6 || lines=$(add "$lines" "listen [::]:$word$3;") ;;
        esac
    done

    printf '%s' "$lines"
}

# file_of NAME VALUE KIND: prints the path of the file that the value is, or has in it
file_of() {
    local file=$STATE/$3

    case $2 in
        /*)
            is_file "$2" || refuse "$1" "$2" "there is no such file, or it can't be read by user $(id -u)"
            file=$2
        ;;
        *) printf '%s\n' "$2" > "$file" ;;
    esac

    printf '%s' "$file"
}

# pem_of NAME VALUE KIND WORDS
pem_of() {
    local file

    file=$(file_of "$1" "$2" "$3") || exit 1
    # Nothing of a key is shown.
    grep -q -e "-----BEGIN [A-Z ]*$4-----" "$file" \
        || die "$1 is neither the path of a file in PEM format with a $4, nor its content"
    printf '%s' "$file"
}

set_tls() {
    local certificate key authority

    TLS=
    ssl=

    if [ -z "${TLS_CERTIFICATE:-}${TLS_CERTIFICATE_KEY:-}" ]; then
        [ -z "${TLS_CLIENT_CA:-}" ] || die "TLS_CLIENT_CA needs TLS_CERTIFICATE and TLS_CERTIFICATE_KEY"
        return 0
    fi

    [ -n "${TLS_CERTIFICATE:-}" ] || die "TLS_CERTIFICATE_KEY needs TLS_CERTIFICATE"
    [ -n "${TLS_CERTIFICATE_KEY:-}" ] || die "TLS_CERTIFICATE needs TLS_CERTIFICATE_KEY"

    certificate=$(pem_of TLS_CERTIFICATE "$TLS_CERTIFICATE" certificate.pem CERTIFICATE)
    key=$(pem_of TLS_CERTIFICATE_KEY "$TLS_CERTIFICATE_KEY" key.pem 'PRIVATE KEY')

    ssl=' ssl'
    TLS="ssl_certificate $certificate;"
    TLS=$(add "$TLS" "ssl_certificate_key $key;")
    TLS=$(add "$TLS" "ssl_protocols TLSv1.2 TLSv1.3;")

    if [ -n "${TLS_CLIENT_CA:-}" ]; then
        authority=$(pem_of TLS_CLIENT_CA "$TLS_CLIENT_CA" client-ca.pem CERTIFICATE)
        TLS=$(add "$TLS" "ssl_client_certificate $authority;")
        TLS=$(add "$TLS" "ssl_verify_client on;")
    fi
}

set_clients() {
    local word words

    CLIENTS=
    words=${ALLOW_CLIENTS:-private}
    [ "$words" != all ] || return 0

    words=$(each ALLOW_CLIENTS "$words" is_client "each must be an address, a network, \"private\", or all of it \"all\"")
    CLIENTS=$(allow_lines "$words")
}

# allow_lines WORDS: nobody else
allow_lines() {
    local word words='' lines=''

    for word in $1; do
        [ "$word" != private ] || word=$PRIVATE
        words="$words $word"
    done

    for word in $words; do
        lines=$(add "$lines" "allow $word;")
    done

    add "$lines" "deny all;"
}

is_client() {
    [ "$1" = private ] || is_network "$1"
}

# A line of a file of passwords is NAME:HASH, and a password as it is would let nobody in. The value is
# never shown.
set_users() {
    local file line

    USERS=
    [ -n "${HTPASSWD:-}" ] || return 0

    file=$(file_of HTPASSWD "$HTPASSWD" htpasswd)
    line=$(awk '
        /^#/ || /^$/ { next }
        /[[:cntrl:]]/ || ! /^[^: ][^:]*:([$]|[{](PLAIN|SHA|SSHA)[}])./ &&
                         ! /^[^: ][^:]*:[.\/0-9A-Za-z][.\/0-9A-Za-z][.\/0-9A-Za-z]{11}$/ { print NR; bad = 1; exit }
        { good = 1 }
        END { if (! good && ! bad) print "none" }' "$file")

    case $line in
        '') ;;
        none) die "HTPASSWD has no user: each line must be NAME:HASH, as \"htpasswd -n NAME\" writes it" ;;
        *)
            die "HTPASSWD has something else in line $line than NAME:HASH, as \"htpasswd -n NAME\" or" \
                "\"openssl passwd -apr1\" makes the hash; in a compose file each \$ is written \$\$"
        ;;
    esac

    USERS="proxy_connect_auth on;"
    USERS=$(add "$USERS" 'auth_basic "proxy";')
    USERS=$(add "$USERS" "auth_basic_user_file $file;")
}

set_guard() {
    local words

    PORTS=$(each ALLOW_PORTS "${ALLOW_PORTS:-443}" is_allowed_port "each must be a port from 1 to 65535, a range as 8000-8100, or \"all\"")

    HOSTS=
    if [ -n "${ALLOW_HOSTS:-}" ] && [ "$ALLOW_HOSTS" != all ]; then
        words=$(each ALLOW_HOSTS "$ALLOW_HOSTS" is_host "each must be a name, .NAME, *.NAME, an address, or file:/PATH of such a list, where a regular expression can stand as well")
        HOSTS=$(add "$HOSTS" "proxy_connect_allow_host $words;")
    fi
    if [ -n "${DENY_HOSTS:-}" ] && [ "$DENY_HOSTS" != none ]; then
        words=$(each DENY_HOSTS "$DENY_HOSTS" is_host "each must be a name, .NAME, *.NAME, an address, or file:/PATH of such a list, where a regular expression can stand as well")
        HOSTS=$(add "$HOSTS" "proxy_connect_deny_host $words;")
    fi

    ADDRESSES=
    if [ -n "${ALLOW_ADDRESSES:-}" ] && [ "$ALLOW_ADDRESSES" != none ]; then
        words=$(each ALLOW_ADDRESSES "$ALLOW_ADDRESSES" is_destination "each must be an address, a network, a group as \"private\", or file:/PATH of such a list")
        ADDRESSES=$(add "$ADDRESSES" "proxy_connect_allow_address $words;")
    fi
    # Empty is not none: an unset variable in a compose file takes no guard away.
    if [ "${DENY_ADDRESSES:-special}" != none ]; then
        words=$(each DENY_ADDRESSES "${DENY_ADDRESSES:-special}" is_destination "each must be an address, a network, a group as \"special\", or file:/PATH of such a list; \"none\" alone takes the guard away")
        ADDRESSES=$(add "$ADDRESSES" "proxy_connect_deny_address $words;")
    fi

    VERIFY_SNI=$(one VERIFY_SNI "${VERIFY_SNI:-off}" "off, on or strict" is_one_of off on strict)
    PROXY_STATUS=$(one PROXY_STATUS "${PROXY_STATUS:-off}" "off, on or details" is_one_of off on details)

    case $PROXY_STATUS in
        on) PROXY_STATUS=proxy ;;
        details) PROXY_STATUS="proxy details" ;;
    esac
}

is_allowed_port() {
    [ "$1" = all ] || is_port_or_range "$1"
}

is_parent() {
    case $1 in
        http://* | https://* | socks5://*) is_authority "${1#*://}" ;;
        *) is_authority "$1" ;;
    esac
}

# nginx's text in quotes; a variable is the one way to write a dollar where variables are taken.
quoted() {
    # shellcheck disable=SC2016
    printf '%s' "$1" | sed -e 's/[\\"]/\\&/g' -e 's/\$/${dollar}/g' -e 's/^/"/' -e 's/$/"/'
}

# The credentials lie in a file of their own, which --print-config does not show.
write_parent_auth() {
    local file value

    file=$(file_of PARENT_AUTH "$PARENT_AUTH" parent-auth)
    value=$(cat "$file")

    case $value in
        *:*)
            printf 'proxy_connect_pass_user %s %s;\n' "$(quoted "${value%%:*}")" "$(quoted "${value#*:}")" \
                > "$STATE/parent-auth.conf"
            return 0
        ;;
    esac

    die "PARENT_AUTH is neither NAME:PASSWORD on one line, nor the path of a file that has it"
}

set_parent() {
    local parent authorities

    parent=${PARENT:-direct}
    PARENT=

    if [ "$parent" = direct ]; then
        [ -z "${PARENT_AUTH:-}${PARENT_CA:-}" ] || die "PARENT_AUTH and PARENT_CA need PARENT"
        return 0
    fi

    is_parent "$parent" || refuse PARENT "$parent" "it must be \"direct\" or HOST:PORT, with http://, https:// or socks5:// in front or without"

    PARENT="proxy_connect_pass $parent;"

    case $parent in
        https://*)
            authorities=$(pem_of PARENT_CA "${PARENT_CA:-$AUTHORITIES}" parent-ca.pem CERTIFICATE)
            PARENT=$(add "$PARENT" "proxy_connect_ssl_trusted_certificate $authorities;")
            PARENT=$(add "$PARENT" "proxy_connect_ssl_verify_depth 5;")
        ;;
        *) [ -z "${PARENT_CA:-}" ] || die "PARENT_CA is for a PARENT that begins with https://" ;;
    esac

    if [ -n "${PARENT_AUTH:-}" ]; then
        write_parent_auth
        PARENT=$(add "$PARENT" "include $STATE/parent-auth.conf;")
    fi
}

# As many workers as the container may use processors, which the machine's number does not tell.
processors() {
    local quota period have

    have=$(nproc)
    quota=max
    period=100000

    if [ -r /sys/fs/cgroup/cpu.max ]; then
        read -r quota period < /sys/fs/cgroup/cpu.max || true
    elif [ -r /sys/fs/cgroup/cpu/cpu.cfs_quota_us ]; then
        quota=$(cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us)
        period=$(cat /sys/fs/cgroup/cpu/cpu.cfs_period_us)
    fi

    if is_number "$quota" 1 999999999 && is_number "$period" 1 999999999 \
        && [ $(((quota + period - 1) / period)) -lt "$have" ]
    then
        have=$(((quota + period - 1) / period))
    fi

    printf '%s' "$have"
}

set_workers() {
    local asked=${WORKER_CONNECTIONS:-} limit

    WORKERS=${WORKERS:-auto}
    [ "$WORKERS" != auto ] || WORKERS=$(processors)
    WORKERS=$(one WORKERS "$WORKERS" "\"auto\" or a number from 1 to 512" is_number 1 512)
    WORKER_CONNECTIONS=$(one WORKER_CONNECTIONS "${asked:-4096}" "a number from 64 to 1000000" is_number 64 1000000)

    # Pipes of splice(2), files and listeners beside the connections.
    DESCRIPTORS=$((WORKER_CONNECTIONS + 256))
    limit=$(ulimit -H -n)

    if [ "$limit" = unlimited ] || [ "$DESCRIPTORS" -le "$limit" ]; then
        return 0
    fi

    [ -z "$asked" ] || refuse WORKER_CONNECTIONS "$asked" "that takes $DESCRIPTORS files, and the container may open $limit: raise its limit, as with --ulimit nofile=$DESCRIPTORS"
    [ "$limit" -ge 320 ] || die "the container may open $limit files only, and nginx needs 320: raise its limit, as with --ulimit nofile=4352"

    DESCRIPTORS=$limit
    WORKER_CONNECTIONS=$((limit - 256))
}

# Standard output may be what nginx can't open anew: a socket, another user's file.
set_logs() {
    LOG_LEVEL=$(one LOG_LEVEL "${LOG_LEVEL:-notice}" "debug, info, notice, warn, error or crit" is_one_of debug info notice warn error crit)
    LOG_FORMAT=$(one LOG_FORMAT "${LOG_FORMAT:-text}" "text, json or off" is_one_of text json off)

    ACCESS_LOG=off
    if [ "$LOG_FORMAT" != off ]; then
        ACCESS_LOG="/dev/stdout $LOG_FORMAT"
    fi
}

check_standard_output() {
    [ "$LOG_FORMAT" = off ] || (: >> /dev/stdout) 2>/dev/null \
        || die "user $(id -u) can't open standard output for the access log: give the container one that it can" \
            "open, or LOG_FORMAT=off"
}

set_health() {
    local listener words

    words=$(each HEALTH "${HEALTH:-8081}" is_listen "$LISTENERS")
    for listener in $words; do
        case " $listeners " in
            *" $listener "*) refuse HEALTH "${HEALTH:-8081}" "LISTEN has $listener as well, and that is the proxy's" ;;
        esac
    done

    HEALTH=$(listen_lines HEALTH "$words" '')
    STATUS=$(one STATUS "${STATUS:-off}" "on or off" is_one_of on off)

    if [ "$STATUS" = off ]; then
        STATUS=
        return 0
    fi

    # Numbers for the network that the container is in; who talks to whom for who is in the container.
    STATUS="location = /metrics {
            $(indented "$(allow_lines private)")
            proxy_connect_status prometheus;
        }
        location /tunnels {
            $(indented "$(allow_lines "127.0.0.1 ::1")")
            proxy_connect_tunnels;
        }"
}

indented() {
    printf '%s' "$1" | sed '2,$s/^/    /'
}

# set_time NAME DEFAULT
set_time() {
    eval "set -- $1 \"\${$1:-$2}\""
    is_time "$2" || refuse "$1" "$2" "it must be a time as 500ms, 10s, 5m or 1h"
    eval "$1=\$2"
}

# --- the configuration

# Each @NAME@ of the template becomes the variable of that name; a line that has nothing else, and nothing
# comes of, is left out.
fill_in() {
    export STATE LOG_LEVEL WORKERS DESCRIPTORS SHUTDOWN_TIMEOUT WORKER_CONNECTIONS ACCESS_LOG RESOLVER \
        LISTEN TLS CLIENTS USERS PORTS HOSTS ADDRESSES VERIFY_SNI CONNECT_TIMEOUT DATA_TIMEOUT TUNNEL_TIME \
        PROXY_STATUS PARENT HEALTH STATUS

    awk '
        {
            line = $0
            while (match(line, /@[A-Z_]+@/)) {
                name = substr(line, RSTART + 1, RLENGTH - 2)
                if (ENVIRON[name] == "" && line ~ /^ *@[A-Z_]+@$/)
                    next
                line = substr(line, 1, RSTART - 1) ENVIRON[name] substr(line, RSTART + RLENGTH)
            }
            print line
        }' "$TEMPLATE"
}

make_conf() {
    (mkdir -p "$STATE" && : > "$CONF") 2>/dev/null \
        || die "user $(id -u) can't write to /tmp: with a read-only root file system mount one there, as with --tmpfs /tmp"

    check_names

    set_logs
    set_workers
    set_resolver
    set_tls
    listeners=$(each LISTEN "${LISTEN:-3128}" is_listen "$LISTENERS")
    LISTEN=$(listen_lines LISTEN "$listeners" "$ssl")
    set_clients
    set_users
    set_guard
    set_parent
    set_health
    set_time SHUTDOWN_TIMEOUT 30s
    set_time CONNECT_TIMEOUT 10s
    set_time DATA_TIMEOUT 60s
    set_time TUNNEL_TIME 0

    fill_in > "$CONF"
}

# check_conf OPTION...
check_conf() {
    nginx -t "$@" -e stderr -c "$CONF" \
        || die "nginx refuses what the environment asks for, for the reason it gives above; --print-config shows it"
}

# The first listener of HEALTH, in the container.
ask_health() {
    local word

    word=$(each HEALTH "${HEALTH:-8081}" is_listen "$LISTENERS")
    word=${word%% *}

    case $word in
        '*:'* | 0.0.0.0:*) word=127.0.0.1:${word##*:} ;;
        '[::]:'*) word="[::1]:${word##*:}" ;;
        *:*) ;;
        *) word=127.0.0.1:$word ;;
    esac

    # The wget of busybox 1.35 does not survive a timeout of its own.
    exec timeout 3 wget -q -O /dev/null "http://$word/healthz"
}

case ${1:-} in
    '')
        make_conf
        check_standard_output
        check_conf -q
        exec nginx -e stderr -c "$CONF"
    ;;
    --print-config)
        make_conf
        cat "$CONF"
    ;;
    --check)
        make_conf
        check_conf
    ;;
    --health) ask_health ;;
    --help) sed -n '/^# proxy-connect /s/^# //p' "$0" ;;
    -*) die "there is no option $1: --help lists them" ;;
    *) exec "$@" ;;
esac
