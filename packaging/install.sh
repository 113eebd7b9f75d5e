#!/bin/sh
# Owns the way of a file of the distribution into an nginx that is there: it picks the one that fits, checks its sum,
# has nginx load it, and puts it into nginx's modules folder. It never guesses: where nothing fits it says what to do.

set -u
LC_ALL=C
export LC_ALL

MODULE=ngx_http_proxy_connect_module
NEEDED_GLIBC=2.28

usage() {
    cat <<END
usage: install.sh [--nginx PATH] [--from FOLDER-OR-URL] [--keyring FILE] [--force] [--check]
       install.sh --remove [--nginx PATH] [--force]

Puts $MODULE.so into the modules folder of the nginx that is installed.

  --nginx PATH   the nginx to install for; the one on the PATH, or /usr/sbin/nginx, if not given
  --from PLACE   where the files and SHA256SUMS lie: a folder, or a URL; the folder of this script if not given
  --keyring FILE the keys of those who may sign: SHA256SUMS.asc has to be by one of them
  --check        only say which file fits, and whether it loads
  --force        replace a newer file, or one that this script has not put there
  --remove       take the file away again
END
}

say() {
    printf '%s\n' "$*"
}

die() {
    printf 'install.sh: %s\n' "$*" >&2
    exit 1
}

has_command() {
    command -v "$1" >/dev/null 2>&1
}

# --- what nginx is there

find_nginx() {
    if [ -z "$nginx" ]; then
        nginx=$(command -v nginx 2>/dev/null) || nginx=

        for path in /usr/sbin/nginx /usr/local/sbin/nginx /usr/local/nginx/sbin/nginx; do
            [ -n "$nginx" ] || [ ! -x "$path" ] || nginx=$path
        done

        [ -n "$nginx" ] || die "there is no nginx on the PATH: install nginx first, or name it with --nginx PATH"
    fi

    [ -x "$nginx" ] && [ ! -d "$nginx" ] || die "$nginx is no program: name the one to install for with --nginx PATH"

    told=$("$nginx" -V 2>&1) || die "\"$nginx -V\" fails: $told"
    arguments=$(say "$told" | sed -n 's/^configure arguments://p')

    name=$(say "$told" | sed -n 's/^nginx version: *//p')
    version=$(say "$name" | sed -n 's/^nginx\/\([0-9][0-9]*\.[0-9][0-9]*\.[0-9][0-9]*\).*/\1/p')

    case $name in
        '')
            die "\"$nginx -V\" does not say which version it is"
        ;;
        *nginx-plus*)
            die "this is \"$name\", and there are files for nginx's open source releases only: NGINX Plus has no" \
                "headers to build a module with"
        ;;
    esac

    [ -n "$version" ] || die "this is \"$name\", and there are files for nginx as nginx.org and the distributions" \
        "publish it: build the module with the source of this one"
}

has_argument() {
    case " $arguments " in
        *" $1 "*) return 0 ;;
    esac

    return 1
}

# value_of ARGUMENT: what nginx was configured with, the last where it stands twice
value_of() {
    say "$arguments" | tr ' ' '\n' | sed -n "s/^'\{0,1\}$1=\([^']*\).*/\1/p" | tail -n 1
}

check_features() {
    build="build the module with the source of this nginx"

    has_argument --with-compat || die "this nginx $version was configured without --with-compat, so that it loads" \
        "no module but those made for it alone: $build, or take the nginx of nginx.org or your distribution"
    has_argument --with-http_ssl_module || die "this nginx $version was configured without" \
        "--with-http_ssl_module, which the files need: $build"

    # 1.18's HTTP/2 is another, which the module leaves alone.
    if is_older 1.19.9 "$version" && ! has_argument --with-http_v2_module; then
        die "this nginx $version was configured without --with-http_v2_module, which the files need: $build"
    fi

    ! has_argument --without-pcre && ! has_argument --without-http_rewrite_module \
        || die "this nginx $version was configured without PCRE, which the files need: $build"
    ! has_argument --without-http || die "this nginx $version was configured without HTTP"
}

# is_older VERSION OTHER: whether the first comes before the other. A pre-release comes before its release.
is_older() {
    awk -v a="$1" -v b="$2" 'BEGIN {
        pa = split(a, left, "-"); pb = split(b, right, "-")
        split(left[1], x, "."); split(right[1], y, ".")
        for (i = 1; i <= 3; i++) {
            if (x[i] + 0 != y[i] + 0) {
                exit !(x[i] + 0 < y[i] + 0)
            }
        }
        if (pa > 1 && pb > 1) {
            exit !(left[2] < right[2])
        }
        exit !(pa > pb)
    }'
}

# What the program itself is for, which need not be what the kernel is for.
find_system() {
    machine=$(dd if="$nginx" bs=1 skip=18 count=2 2>/dev/null | od -An -tu1 | tr -s ' ' ':')
    machine=${machine#:}
    class=$(dd if="$nginx" bs=1 skip=4 count=1 2>/dev/null | od -An -tu1 | tr -d ' ')
    magic=$(dd if="$nginx" bs=1 skip=1 count=3 2>/dev/null)

    [ "$magic" = ELF ] || die "$nginx is a script or another system's program: name nginx itself with --nginx PATH"

    # Fields e_ident[EI_CLASS] and e_machine of elf(5).
    case "$class:$machine" in
        2:62:0) arch=x86_64 ;;
        2:183:0) arch=aarch64 ;;
        *) die "this nginx is for a processor with ELF class $class and machine ${machine%%:*}, and there are files" \
            "for x86_64 and aarch64: build the module with the source of nginx $version" ;;
    esac

    [ "$(uname -s)" = Linux ] || die "this system is $(uname -s), and there are files for Linux: build the module with" \
        "the source of nginx $version"

    find_libc
}

# The C library is named by the program's loader.
find_libc() {
    loader=$(tr -c '[:alnum:]/._-' '\n' < "$nginx" 2>/dev/null | grep -E '^/.*/ld-(linux|musl)' | head -n 1)

    case $loader in
        *ld-musl-*)  libc=musl ;;
        *ld-linux-*) libc=glibc ;;
        *) die "this nginx's C library is neither glibc nor musl, or it is linked into it, so that it can't load a" \
            "module: build nginx $version with the module" ;;
    esac

    if [ "$libc" = glibc ]; then
        glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null | sed -n 's/^glibc //p')

        if [ -n "$glibc" ] && is_older "$glibc" "$NEEDED_GLIBC"; then
            die "this system's glibc is $glibc, and the files need $NEEDED_GLIBC: build the module with the source of" \
                "nginx $version"
        fi
    fi
}

find_modules_folder() {
    folder=$(value_of --modules-path)

    if [ -z "$folder" ]; then
        prefix=$(value_of --prefix)
        folder=${prefix:-/usr/local/nginx}/modules
    fi

    target=$folder/$MODULE.so
    record=$folder/.$MODULE.so.sha256
}

# --- files

# Where a URL is meant, and not a folder.
is_url() {
    case $1 in
        http://* | https://*) return 0 ;;
    esac

    return 1
}

# fetch NAME FILE: gets a file of the distribution
fetch() {
    if ! is_url "$from"; then
        [ -f "$from/$1" ] || return 1
        cp "$from/$1" "$2"
        return
    fi

    # A "+" in a path is a plus; some servers take it for a space.
    address=$from/$(say "$1" | sed 's/+/%2B/g')

    if has_command curl; then
        curl -fsSL --retry 2 --connect-timeout 15 --max-time 300 -o "$2" "$address"
    else
        wget -q -T 60 -O "$2" "$address"
    fi
}

sum_of() {
    $sum_program "$1" | sed 's/[ *].*//'
}

find_sum_program() {
    if has_command sha256sum; then
        sum_program=sha256sum
    elif has_command shasum; then
        sum_program="shasum -a 256"
    elif has_command openssl; then
        sum_program="openssl dgst -sha256 -r"
    else
        die "there is none of sha256sum, shasum and openssl to check the file's sum with: install one of them"
    fi
}

# The one line of SHA256SUMS that fits.
pick() {
    fetch SHA256SUMS "$scratch/SHA256SUMS" 2>"$scratch/error" || {
        if is_url "$from"; then
            die "$from/SHA256SUMS can't be had: $(tail -n 1 "$scratch/error" 2>/dev/null): check the address and the" \
                "network, or download the files elsewhere and name their folder with --from FOLDER"
        fi
        die "there is no SHA256SUMS in $from: name the folder, or the URL, of the files with --from"
    }

    [ -z "$keyring" ] || check_signature

    files=$(sed -n "s/^[0-9a-f]\{64\} [ *]\($MODULE-[^/]*\.tar\.gz\)\$/\1/p" "$scratch/SHA256SUMS")
    fitting=$(say "$files" | grep -F -e "+nginx-$version-linux-$arch-$libc.tar.gz")

    case $(say "$fitting" | grep -c .) in
        1) file=$fitting ;;
        0)
            others=$(say "$files" | sed -n "s/.*+nginx-\([0-9.]*\)-linux-$arch-$libc\.tar\.gz\$/\1/p" | tr '\n' ' ')
            die "there is no file for nginx $version, $arch, $libc in $from${others:+; there are some for nginx ${others% }}:" \
                "make it with \"make dist NGINX=$version ARCH=$arch LIBC=$libc\" in the project, or build the module with" \
                "the source of nginx $version"
        ;;
        *) die "SHA256SUMS in $from names several files for nginx $version, $arch, $libc: keep one version of the" \
            "module there" ;;
    esac
}

check_signature() {
    fetch SHA256SUMS.asc "$scratch/SHA256SUMS.asc" 2>/dev/null \
        || die "there is no signature SHA256SUMS.asc in $from, and --keyring asks for one"

    gpgv --keyring "$keyring" "$scratch/SHA256SUMS.asc" "$scratch/SHA256SUMS" > "$scratch/error" 2>&1 \
        || die "SHA256SUMS.asc in $from is not a signature by a key of $keyring:" \
            "$(sed 's/^gpgv: *//' "$scratch/error" | tail -n 1)"
}

get() {
    fetch "$file" "$scratch/archive.tar.gz" 2>"$scratch/error" \
        || die "$file can't be had from $from: $(tail -n 1 "$scratch/error" 2>/dev/null)"

    wanted=$(sed -n "s/^\([0-9a-f]\{64\}\) [ *]$(say "$file" | sed 's/[.+]/\\&/g; s/\\+/+/g')\$/\1/p" "$scratch/SHA256SUMS")
    found=$(sum_of "$scratch/archive.tar.gz")

    [ -n "$wanted" ] && [ "$wanted" = "$found" ] \
        || die "the sum of $file is $found, and SHA256SUMS says $wanted: it is damaged, or not the file that was" \
            "published; get it again"

    gzip -dc "$scratch/archive.tar.gz" 2>/dev/null | (cd "$scratch" && tar -xf - 2>/dev/null) \
        || die "$file can't be unpacked"

    so=$scratch/${file%.tar.gz}/$MODULE.so
    [ -f "$so" ] || die "$file has no $MODULE.so"
}

# version_of FILE: the module's version, as it stands in a file of it
version_of() {
    tr -c '[:alnum:]/._+-' '\n' < "$1" | sed -n "s/^.*$MODULE\/\([0-9][0-9]*\.[0-9].*\)\$/\1/p" | head -n 1
}

# --- nginx says whether it fits

# loads FILE: has nginx load it, with a configuration of its own
loads() {
    mkdir -p "$scratch/prefix/logs" "$scratch/prefix/temp"
    # The user that nginx was configured with need not be there.
    [ "$(id -u)" = 0 ] && user="user root;" || user=
    cat > "$scratch/load.conf" <<END
load_module $1;
$user
error_log stderr notice;
pid $scratch/load.pid;
events {
}
http {
    access_log off;
    client_body_temp_path $scratch/prefix/temp;
    proxy_temp_path $scratch/prefix/temp;
    fastcgi_temp_path $scratch/prefix/temp;
    uwsgi_temp_path $scratch/prefix/temp;
    scgi_temp_path $scratch/prefix/temp;
    server {
        listen unix:$scratch/load.sock;
        proxy_connect;
    }
}
END
    # One without a module does not know these.
    for module in fastcgi uwsgi scgi proxy; do
        if has_argument "--without-http_${module}_module"; then
            sed "/${module}_temp_path/d" "$scratch/load.conf" > "$scratch/load.new"
            mv "$scratch/load.new" "$scratch/load.conf"
        fi
    done

    "$nginx" -t -p "$scratch/prefix/" -c "$scratch/load.conf" > "$scratch/said" 2>&1
}

reason() {
    grep '\[emerg\]' "$scratch/said" | head -n 1 | sed 's/^nginx: \[emerg\] //' | grep . || tail -n 1 "$scratch/said"
}

# --- the work

install_it() {
    pick
    get
    new=$(version_of "$so")

    loads "$so" || {
        why=$(reason)

        case $why in
            *"binary compatible"* | *"undefined symbol"* | *"symbol not found"* | *" instead of "*)
                why="$why: this nginx $version is built otherwise than the file expects, so build the module with its source"
            ;;
        esac

        die "nothing was installed, since nginx does not load $file: $why"
    }

    if [ -n "$check" ]; then
        say "$file fits $nginx and loads."
        exit 0
    fi

    if [ -e "$target" ]; then
        check_replaced
    fi

    [ -d "$folder" ] || mkdir -p "$folder" 2>/dev/null || die "can't make $folder: run this as root"
    [ -w "$folder" ] || die "can't write to $folder: run this as root"

    # A running nginx has the old one mapped: the name gets another file, the file stays what it is.
    cp "$so" "$target.new" && chmod 644 "$target.new" && mv "$target.new" "$target" \
        || die "can't write $target"
    sum_of "$target" > "$record"

    loads "$target" || die "nginx loads the module from $scratch, and not as $target: $(reason)"

    say "$file fits $nginx and loads: $target is installed, version $new."
    explain
}

# explain: what is left to do
explain() {
    if "$nginx" -T 2>/dev/null | grep -E '^[^#]*load_module[^;]*'"$MODULE\.so" >/dev/null; then
        say "The configuration loads it already. To have it run: nginx -t && nginx -s reload"
        return
    fi

    line="load_module $target;"
    [ "$folder" != "$(value_of --prefix)/modules" ] || line="load_module modules/$MODULE.so;"

    cat <<END
Add to nginx.conf, at its beginning, in front of "events":

    $line

and to a server block of the proxy's own (proxy_connect.conf in the archive is one to start from):

    proxy_connect;

Then: nginx -t && nginx -s reload
END
}

is_ours() {
    [ -f "$record" ] && [ "$(cat "$record")" = "$(sum_of "$target")" ]
}

check_replaced() {
    [ ! -d "$target" ] || die "$target is a folder"

    if cmp -s "$so" "$target"; then
        say "$target is this very file."
        sum_of "$target" > "$record" 2>/dev/null
        explain
        exit 0
    fi

    [ -z "$force" ] || return 0
    old=$(version_of "$target")

    if [ -n "$old" ] && is_older "$new" "$old"; then
        die "$target is version $old, and this is $new, which is older: --force replaces it all the same"
    fi

    is_ours || die "$target is there, version ${old:-unknown}, and not from this script; a package may own it:" \
        "--force replaces it with version $new"
}

remove_it() {
    if [ ! -e "$target" ]; then
        rm -f "$record" 2>/dev/null
        say "There is no $target."
        return
    fi

    if [ -z "$force" ]; then
        is_ours || die "$target is not the file that this script has put there: --force removes it all the same"

        line=$("$nginx" -T 2>/dev/null | grep -E '^[^#]*load_module[^;]*'"$MODULE\.so" | head -n 1 | sed 's/^ *//')
        [ -z "$line" ] || die "the configuration still has \"$line\", and nginx would not start without the file:" \
            "take it out and reload nginx first"
    fi

    rm -f "$target" "$record" || die "can't remove $target: run this as root"
    say "$target is removed."
}

nginx=
from=
keyring=
force=
check=
remove=

while [ $# -gt 0 ]; do
    case $1 in
        --nginx | --from | --keyring)
            [ $# -gt 1 ] && [ -n "$2" ] || die "$1 takes a value: see install.sh --help"

            case $1 in
                --nginx) nginx=$2 ;;
                --from) from=$2 ;;
                --keyring) keyring=$2 ;;
            esac
            shift
        ;;
        --nginx=*)   nginx=${1#*=} ;;
        --from=*)    from=${1#*=} ;;
        --keyring=*) keyring=${1#*=} ;;
        --force)   force=1 ;;
        --check)   check=1 ;;
        --remove)  remove=1 ;;
        -h | --help)
            usage
            exit 0
        ;;
        *)
            usage >&2
            die "\"$1\" is not known"
        ;;
    esac
    shift
done

if [ -z "$from" ]; then
    from=$(cd "$(dirname "$0")" && pwd)
fi

from=${from%/}
! is_url "$from" || [ -n "$remove" ] || has_command curl || has_command wget \
    || die "there is neither curl nor wget to get the files with: install one of them, or download the files elsewhere" \
        "and name their folder with --from FOLDER"
is_url "$from" || [ -d "$from" ] || die "there is no folder $from: name the folder, or the URL, of the files with --from"

if [ -n "$keyring" ]; then
    [ -f "$keyring" ] || die "there is no keyring $keyring"
    has_command gpgv || die "there is no gpgv to check the signature with: install it, or leave --keyring out"
    keyring=$(cd "$(dirname "$keyring")" && pwd)/$(basename "$keyring")
fi

scratch=$(mktemp -d) || die "can't make a temporary folder"
# The workers' user may have to go in.
chmod 755 "$scratch"
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM

find_sum_program
find_nginx
find_modules_folder

if [ -n "$remove" ]; then
    remove_it
else
    find_system
    check_features
    install_it
fi
