//! Owns the peers' configurations: one worker each, no access log, nothing cached, and as many
//! connections as the bench may open.

use std::fs;
use std::io::{self, Error};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{limits, Kind, Limits, Rules, Through, Tools, Web};
use crate::IDLE_TUNNELS;

/// A peer as it is being configured.
struct Draft<'a> {
    tools: &'a Tools,
    folder: &'a Path,
    port: u16,
    origin: u16,
}

/// Writes a peer's configuration; the command that starts it in the foreground.
pub fn prepare(
    kind: Kind,
    tools: &Tools,
    folder: &Path,
    port: u16,
    origin: u16,
) -> io::Result<Command> {
    let draft = Draft { tools, folder, port, origin };

    match kind {
        Kind::Module => draft.module("", ""),
        Kind::Counted => draft.counted(),
        Kind::ModuleTls => draft.module(" ssl", ""),
        Kind::ModuleHttp2 => draft.module(" ssl", HTTP2),
        Kind::ModuleH2c => draft.module("", HTTP2),
        Kind::Envoy => draft.envoy(true),
        Kind::EnvoyH2c => draft.envoy(false),
        Kind::RustHttp2 => draft.rust_http2(),
        Kind::Rules(rules) => draft.module("", &draft.rules(rules)),
        Kind::Through(through) => draft.through(through),
        Kind::Web(web) => draft.web(web),
        Kind::Limits(Limits::StreamEach) => {
            draft.stream("", &format!("proxy_download_rate {};", limits::EACH.0))
        }
        Kind::Limits(limits) => draft.module("", &limits.directives()),
        Kind::Stream => draft.stream("", ""),
        Kind::StreamTls => draft.stream(" ssl", ""),
        Kind::Tunnel => draft.tunnel(),
        Kind::Haproxy => draft.haproxy(""),
        Kind::HaproxyTls => draft.haproxy(" ssl"),
        Kind::Squid => draft.squid(""),
        Kind::TrafficServer => draft.traffic_server(),
        Kind::Apache => draft.apache(),
        Kind::Tinyproxy => draft.tinyproxy(),
        Kind::Bare => draft.bare(),
        Kind::Direct => Err(Error::other("there is nothing to start")),
    }
}

/// What nginx has to be told for tunnels over HTTP/2, as many as the bench opens.
const HTTP2: &str = "http2 on; http2_max_concurrent_streams 256; keepalive_requests 1000000000;";

/// What a request is answered with.
const ANSWER: &str = "location / { return 200 \"hello\\n\"; }";

/// The program of a Debian package.
fn installed(name: &str) -> io::Result<PathBuf> {
    ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| Error::other(format!("{name} is not installed")))
}

impl Draft<'_> {
    fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.folder.join(name);
        fs::write(&path, text)?;
        Ok(path)
    }

    /// A folder that any user may write to.
    fn folder(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.folder.join(name);
        fs::create_dir_all(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777))?;
        Ok(path)
    }

    /// More connections than the bench opens, two for a tunnel.
    fn connections(&self) -> usize {
        2 * IDLE_TUNNELS + 1000
    }

    fn nginx(&self, nginx: &Path, globals: &str, block: &str) -> io::Result<Command> {
        let folder = self.folder.display();
        let connections = self.connections();
        let conf = self.write(
            "nginx.conf",
            &format!(
                "daemon off;\nworker_processes 1;\npid {folder}/nginx.pid;\nerror_log stderr;\n\
                 worker_rlimit_nofile {connections};\n{globals}\n\
                 events {{ worker_connections {connections}; }}\n{block}\n"
            ),
        )?;

        // Where it was built to have its temporary files need not exist: it makes them itself.
        self.folder("logs")?;

        let mut command = Command::new(nginx);
        command.arg("-p").arg(self.folder).arg("-c").arg(conf).args(["-e", "stderr"]);
        Ok(command)
    }

    fn certificate(&self, ssl: &str) -> io::Result<String> {
        if ssl.is_empty() {
            return Ok(String::new());
        }

        let (cert, key) = (self.folder.join("cert.pem"), self.folder.join("key.pem"));

        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
            .args(["-nodes", "-days", "2", "-subj", "/CN=localhost"])
            .arg("-addext")
            .arg("subjectAltName=DNS:localhost")
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&cert)
            .output()?;

        if !made.status.success() {
            return Err(Error::other("openssl made no certificate"));
        }

        Ok(format!("ssl_certificate {}; ssl_certificate_key {};", cert.display(), key.display()))
    }

    fn http_server(&self, ssl: &str, body: &str) -> io::Result<String> {
        let folder = self.folder.display();
        let certificate = self.certificate(ssl)?;
        let port = self.port;

        Ok(format!(
            "http {{ access_log off; client_body_temp_path {folder}; proxy_temp_path {folder}; \
             fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder}; \
             server {{ listen 127.0.0.1:{port}{ssl} backlog=4096; {certificate} {body} }} }}"
        ))
    }

    /// The rules, and that whatever is named leads to the origin server.
    fn rules(&self, rules: Rules) -> String {
        format!("proxy_connect_address 127.0.0.1:{}; {}", self.origin, rules.directives())
    }

    fn module(&self, ssl: &str, more: &str) -> io::Result<Command> {
        let body = format!(
            "proxy_connect; proxy_connect_allow all; proxy_connect_connect_timeout 10s; \
             proxy_connect_data_timeout 10m; {more}"
        );

        self.with_module(ssl, &body)
    }

    fn with_module(&self, ssl: &str, body: &str) -> io::Result<Command> {
        let load = match &self.tools.module {
            Some(module) => format!("load_module {};", module.display()),
            None => String::new(),
        };

        self.nginx(&self.tools.nginx, &load, &self.http_server(ssl, body)?)
    }

    /// An nginx that answers requests over HTTP/2 and TLS.
    fn web(&self, web: Web) -> io::Result<Command> {
        match web {
            Web::Without => {
                let body = format!("{HTTP2} {ANSWER}");
                self.nginx(&self.tools.nginx, "", &self.http_server(" ssl", &body)?)
            }
            Web::Apart => {
                let port = super::free_port()?;
                let beside = format!(
                    "{HTTP2} {ANSWER} }} server {{ listen 127.0.0.1:{port}; proxy_connect;"
                );
                self.with_module(" ssl", &beside)
            }
            Web::Beside => self.module(" ssl", &format!("{HTTP2} {ANSWER}")),
        }
    }

    /// With a list that has room for more tunnels than the bench opens.
    fn counted(&self) -> io::Result<Command> {
        self.module(
            "",
            "proxy_connect_status_zone counted:4m; \
             location /tunnels { proxy_connect_tunnels json; }",
        )
    }

    fn stream(&self, ssl: &str, more: &str) -> io::Result<Command> {
        let (port, origin) = (self.port, self.origin);
        let certificate = self.certificate(ssl)?;

        let block = format!(
            "stream {{ server {{ listen 127.0.0.1:{port}{ssl} backlog=4096; {certificate} \
             proxy_pass 127.0.0.1:{origin}; proxy_timeout 10m; {more} }} }}"
        );

        self.nginx(&self.tools.nginx, "", &block)
    }

    fn tunnel(&self) -> io::Result<Command> {
        let nginx = self
            .tools
            .tunnel_nginx
            .as_ref()
            .ok_or_else(|| Error::other("needs nginx 1.31: set NGINX_SOURCES"))?;

        let body = "location / { tunnel_pass; tunnel_read_timeout 10m; tunnel_send_timeout 10m; }";

        self.nginx(nginx, "", &self.http_server("", body)?)
    }

    fn haproxy(&self, ssl: &str) -> io::Result<Command> {
        let program = installed("haproxy")?;
        let (port, origin) = (self.port, self.origin);
        let tunnels = IDLE_TUNNELS + 500;
        let ssl = self.haproxy_ssl(ssl)?;

        let conf = self.write(
            "haproxy.cfg",
            &format!(
                "global\n  maxconn {tunnels}\n  nbthread 1\n\
                 defaults\n  mode tcp\n  maxconn {tunnels}\n  timeout connect 10s\n  \
                 timeout client 10m\n  timeout server 10m\n  \
                 option splice-request\n  option splice-response\n\
                 listen relay\n  bind 127.0.0.1:{port}{ssl} backlog 4096\n  \
                 server origin 127.0.0.1:{origin}\n"
            ),
        )?;

        let mut command = Command::new(program);
        command.arg("-db").arg("-f").arg(conf);
        Ok(command)
    }

    /// What `bind` is told for TLS: haproxy has certificate and key in one file.
    fn haproxy_ssl(&self, ssl: &str) -> io::Result<String> {
        if ssl.is_empty() {
            return Ok(String::new());
        }

        self.certificate(ssl)?;
        let parts = ["cert.pem", "key.pem"].map(|name| fs::read_to_string(self.folder.join(name)));
        let [cert, key] = parts;
        let both = self.write("both.pem", &(cert? + &key?))?;

        Ok(format!("{ssl} crt {}", both.display()))
    }

    /// A server of CONNECT: envoy wants it in JSON, which YAML has.
    fn envoy(&self, tls: bool) -> io::Result<Command> {
        let program = self.tools.envoy.as_ref();
        let program = program.ok_or_else(|| Error::other("its program is not there"))?;
        let (port, origin) = (self.port, self.origin);

        let tls = if tls {
            let certificate = self.certificate(" ssl")?;
            drop(certificate);
            let (cert, key) = (self.folder.join("cert.pem"), self.folder.join("key.pem"));

            format!(
                r#""transport_socket": {{"name": "tls", "typed_config": {{
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                "common_tls_context": {{"alpn_protocols": ["h2"], "tls_certificates": [{{
                "certificate_chain": {{"filename": "{}"}}, "private_key": {{"filename": "{}"}}}}]}}}}}},"#,
                cert.display(),
                key.display()
            )
        } else {
            String::new()
        };

        let conf = self.write(
            "envoy.json",
            &format!(
                r#"{{"static_resources": {{"listeners": [{{
                "address": {{"socket_address": {{"address": "127.0.0.1", "port_value": {port}}}}},
                "filter_chains": [{{{tls} "filters": [{{"name": "hcm", "typed_config": {{
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": "h", "codec_type": "HTTP2", "stream_idle_timeout": "600s",
                "http2_protocol_options": {{"allow_connect": true, "max_concurrent_streams": 1000}},
                "upgrade_configs": [{{"upgrade_type": "CONNECT"}}],
                "route_config": {{"virtual_hosts": [{{"name": "v", "domains": ["*"], "routes": [{{
                "match": {{"connect_matcher": {{}}}}, "route": {{"cluster": "origin", "timeout": "0s",
                "upgrade_configs": [{{"upgrade_type": "CONNECT", "connect_config": {{}}}}]}}}}]}}]}},
                "http_filters": [{{"name": "router", "typed_config": {{
                "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}}}]}}}}]}}]}}],
                "clusters": [{{"name": "origin", "type": "STATIC", "connect_timeout": "10s",
                "circuit_breakers": {{"thresholds": [{{"max_connections": 100000,
                "max_pending_requests": 100000, "max_requests": 100000}}]}},
                "load_assignment": {{"cluster_name": "origin", "endpoints": [{{"lb_endpoints": [{{
                "endpoint": {{"address": {{"socket_address": {{"address": "127.0.0.1",
                "port_value": {origin}}}}}}}}}]}}]}}}}]}}}}"#
            ),
        )?;

        let mut command = Command::new(program);
        command.arg("-c").arg(conf).args(["--concurrency", "1", "--disable-hot-restart"]);
        command.args(["-l", "error"]);
        Ok(command)
    }

    /// The bench's own relay with Rust's h2.
    fn rust_http2(&self) -> io::Result<Command> {
        self.certificate(" ssl")?;

        let mut command = Command::new(std::env::current_exe()?);
        command.arg("h2-relay").arg(self.port.to_string());
        command.arg(self.folder.join("cert.pem")).arg(self.folder.join("key.pem"));
        Ok(command)
    }

    /// The origin server's place is the parent's.
    fn through(&self, through: Through) -> io::Result<Command> {
        let parent = self.origin;

        match through {
            Through::Module => {
                self.module("", &format!("proxy_connect_pass http://127.0.0.1:{parent};"))
            }
            Through::Squid => self.squid(&format!(
                "cache_peer 127.0.0.1 parent {parent} 0 no-query no-digest default\n\
                 never_direct allow all\n"
            )),
            Through::Haproxy => self.haproxy(""),
        }
    }

    fn squid(&self, more: &str) -> io::Result<Command> {
        let program = installed("squid")?;
        let folder = self.folder.display();
        let port = self.port;
        let files = self.connections();

        let conf = self.write(
            "squid.conf",
            &format!(
                "http_port 127.0.0.1:{port}\nvisible_hostname localhost\nhttp_access allow all\n\
                 cache deny all\naccess_log none\ncache_log {folder}/cache.log\n\
                 cache_store_log none\nnetdb_filename none\npinger_enable off\n\
                 pid_filename {folder}/squid.pid\ncoredump_dir {folder}\n\
                 max_filedescriptors {files}\nshutdown_lifetime 0 seconds\n{more}"
            ),
        )?;

        let mut command = Command::new(program);
        command.arg("-N").arg("-f").arg(conf);
        Ok(command)
    }

    fn tinyproxy(&self) -> io::Result<Command> {
        let program = installed("tinyproxy")?;
        let port = self.port;
        let tunnels = IDLE_TUNNELS + 500;

        let conf = self.write(
            "tinyproxy.conf",
            &format!(
                "Port {port}\nListen 127.0.0.1\nTimeout 600\nMaxClients {tunnels}\n\
                 LogLevel Critical\nDisableViaHeader Yes\n"
            ),
        )?;

        let mut command = Command::new(program);
        command.arg("-d").arg("-c").arg(conf);
        Ok(command)
    }

    fn apache(&self) -> io::Result<Command> {
        let program = installed("apache2")?;
        let modules = Path::new("/usr/lib/apache2/modules");
        let folder = self.folder.display();
        let port = self.port;
        // It keeps a thread busy for each tunnel.
        let threads = IDLE_TUNNELS + 500;

        let mut conf = String::new();

        for module in ["mpm_event", "authz_core", "proxy", "proxy_connect"] {
            let path = modules.join(format!("mod_{module}.so"));
            conf += &format!("LoadModule {module}_module {}\n", path.display());
        }

        conf += &format!(
            "ServerRoot {folder}\nServerName localhost\nPidFile {folder}/httpd.pid\n\
             DefaultRuntimeDir {folder}\nMutex file:{folder} default\nErrorLog {folder}/error.log\n\
             Listen 127.0.0.1:{port}\nListenBacklog 4096\n\
             ServerLimit 1\nStartServers 1\nThreadLimit {threads}\nThreadsPerChild {threads}\n\
             MaxRequestWorkers {threads}\nMinSpareThreads 1\nMaxSpareThreads {threads}\n\
             MaxConnectionsPerChild 0\nTimeout 600\n\
             ProxyRequests On\nAllowCONNECT 1-65535\n"
        );

        if is_root() {
            conf += "User www-data\nGroup www-data\n";
        }

        let conf = self.write("httpd.conf", &conf)?;

        let mut command = Command::new(program);
        command.arg("-DFOREGROUND").arg("-f").arg(conf);
        Ok(command)
    }

    fn traffic_server(&self) -> io::Result<Command> {
        let program = installed("traffic_server")?;
        let port = self.port;
        let connections = self.connections();
        let [etc, log, run, cache] = ["etc", "log", "run", "cache"].map(|name| self.folder(name));
        let (etc, log, run, cache) = (etc?, log?, run?, cache?);

        let mut set = vec![
            ("http.server_ports", format!("STRING {port}:ip-in=127.0.0.1")),
            ("http.connect_ports", "STRING *".into()),
            ("url_remap.remap_required", "INT 0".into()),
            ("reverse_proxy.enabled", "INT 0".into()),
            ("http.cache.http", "INT 0".into()),
            ("log.logging_enabled", "INT 0".into()),
            ("exec_thread.autoconfig", "INT 0".into()),
            ("exec_thread.affinity", "INT 0".into()),
            ("exec_thread.limit", "INT 1".into()),
            ("accept_threads", "INT 0".into()),
            ("task_threads", "INT 1".into()),
            ("net.connections_throttle", format!("INT {connections}")),
            ("net.default_inactivity_timeout", "INT 600".into()),
            ("http.transaction_no_activity_timeout_in", "INT 600".into()),
            ("http.transaction_no_activity_timeout_out", "INT 600".into()),
            ("crash_log_helper", "STRING NULL".into()),
        ];

        // It refuses to be root; this is the user that its package makes.
        if is_root() {
            set.push(("admin.user_id", "STRING trafficserver".into()));
        }

        let records: String = set
            .iter()
            .map(|(name, value)| format!("CONFIG proxy.config.{name} {value}\n"))
            .collect();

        fs::write(etc.join("records.config"), records)?;
        fs::write(etc.join("storage.config"), format!("{} 16M\n", cache.display()))?;
        fs::write(
            etc.join("ip_allow.yaml"),
            "ip_allow:\n  - apply: in\n    ip_addrs: 0/0\n    action: allow\n    methods: ALL\n",
        )?;

        let root = self.write(
            "runroot.yaml",
            &format!(
                "prefix: /usr\nexec_prefix: /usr\nbindir: /usr/bin\nsbindir: /usr/bin\n\
                 sysconfdir: {}\ndatadir: /usr/share/trafficserver\nincludedir: /usr/include\n\
                 libdir: /usr/lib/trafficserver\nlibexecdir: /usr/lib/trafficserver/modules\n\
                 localstatedir: {run}\nruntimedir: {run}\nlogdir: {}\ncachedir: {}\n",
                etc.display(),
                log.display(),
                cache.display(),
                run = run.display(),
            ),
        )?;

        let mut command = Command::new(program);
        command.arg(format!("--run-root={}", root.display()));
        Ok(command)
    }

    fn bare(&self) -> io::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("relay").arg(self.port.to_string()).arg(self.origin.to_string());
        Ok(command)
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| {
        use std::os::unix::fs::MetadataExt;
        own.uid() == 0
    })
}
