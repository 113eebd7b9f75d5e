#!/bin/bash
# Owns the proof that Prometheus reads what docs/observability has: its promtool checks the scrape, the alerts, and the
# metrics that a real nginx gives; jq reads the dashboard. As for "make test", with NGINX_VERSION and CORE.

. "$(dirname "$0")/common.sh"

need_for_observability() {
    need prometheus has_command promtool
    need jq has_command jq
    need curl has_command curl
}

# shellcheck source=script/packages.sh
. script/packages.sh build observability

core=$(core_of "$NGINX_VERSION")
script/nginx-build.sh "$NGINX_VERSION" test dynamic "$core"
objs=$BUILD/nginx-$NGINX_VERSION-test-dynamic-$core/objs
scratch=$(mktemp -d)
trap 'kill "$(cat "$scratch/pid" 2>/dev/null)" 2>/dev/null; rm -rf "$scratch"' EXIT

step "promtool: scrape and alerts"
promtool check config docs/observability/prometheus.yml

step "jq: the dashboard"
jq -e '.panels | length > 0' docs/observability/grafana.json > /dev/null
note "$(jq '.panels | length' docs/observability/grafana.json) panels"

step "promtool: metrics of nginx $NGINX_VERSION, core: $core"
mkdir "$scratch/temp"
cat > "$scratch/nginx.conf" <<END
load_module $objs/$MODULE.so;
pid $scratch/pid;
error_log $scratch/error.log;
events {
}
http {
    access_log off;
    client_body_temp_path $scratch/temp/body;
    proxy_temp_path $scratch/temp/proxy;
    fastcgi_temp_path $scratch/temp/fastcgi;
    uwsgi_temp_path $scratch/temp/uwsgi;
    scgi_temp_path $scratch/temp/scgi;
    proxy_connect_status_zone main;
    upstream exits {
        server 127.0.0.1:1;
    }
    server {
        listen unix:$scratch/parents;
        proxy_connect;
        proxy_connect_pass exits;
    }
    server {
        listen unix:$scratch/socket;
        proxy_connect;
        location / {
            proxy_connect_status prometheus;
        }
    }
}
END

# shellcheck disable=SC2046
"$objs/nginx" -c "$scratch/nginx.conf" $(early_log "$objs/nginx")
curl -sS --unix-socket "$scratch/socket" -X CONNECT --request-target 127.0.0.1:1 http://localhost/ > /dev/null
curl -sSf --unix-socket "$scratch/socket" http://localhost/ > "$scratch/metrics"
promtool check metrics < "$scratch/metrics"
note "$(grep -c '^nginx_proxy_connect_' "$scratch/metrics") values"
echo "ok"
