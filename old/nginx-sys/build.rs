//! Owns the bindings to an old nginx, and telling the module's build.rs about it, in the words of
//! the crate nginx-sys.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

/// What the sources of the module ask for with `cfg(ngx_feature = "...")`, and the macro behind it.
const FEATURES: [(&str, &str); 3] = [("pcre", "NGX_PCRE"), ("ssl", "NGX_SSL"), ("http_ssl", "NGX_HTTP_SSL")];

/// What came with a later nginx and is stood in for, as `cfg(lacks = "...")`: its name, the header
/// that would have it, and a text that it would have.
const LATER: [(&str, &str, &str); 10] = [
    ("ngx_parse_addr_port", "core/ngx_inet.h", "ngx_parse_addr_port("),
    ("ngx_inet_set_port", "core/ngx_inet.h", "ngx_inet_set_port("),
    ("ngx_sock_ntop socklen", "core/ngx_inet.h", "ngx_sock_ntop(struct sockaddr *sa, socklen_t"),
    ("ngx_tcp_nodelay", "core/ngx_connection.h", "ngx_tcp_nodelay("),
    ("ngx_resolver_addr_t", "core/ngx_resolver.h", "ngx_resolver_addr_t"),
    ("queue", "event/ngx_event.h", "      queue;"),
    ("transparent", "event/ngx_event_connect.h", "transparent:1"),
    ("NGX_MODULE_SIGNATURE", "core/ngx_module.h", "NGX_MODULE_SIGNATURE"),
    ("NGX_HTTP_VERSION_20", "http/ngx_http_request.h", "NGX_HTTP_VERSION_20"),
    ("NGX_HTTP_PRECONTENT_PHASE", "http/ngx_http_core_module.h", "NGX_HTTP_PRECONTENT_PHASE"),
];

fn main() -> Result<(), Box<dyn Error>> {
    for name in ["NGINX_SOURCE_DIR", "NGINX_BUILD_DIR"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=wrapper.h");

    let source = fs::canonicalize(env::var("NGINX_SOURCE_DIR")?)?;
    let build = fs::canonicalize(env::var("NGINX_BUILD_DIR")?)?;
    let makefile = build.join("Makefile");
    println!("cargo::rerun-if-changed={}", makefile.display());

    let (include, defines) = flags(&fs::read_to_string(makefile)?, &source);

    tell(&source, &build, &include, &defines)?;
    bind(&include, &defines)
}

/// The include folders and the definitions that nginx itself is compiled with.
fn flags(makefile: &str, source: &Path) -> (Vec<PathBuf>, Vec<String>) {
    let joined = makefile.replace("\\\n", " ");
    let (mut include, mut defines) = (Vec::new(), Vec::new());

    for line in
        joined.lines().filter(|line| line.starts_with("CFLAGS") || line.starts_with("ALL_INCS"))
    {
        let mut words = line.split_whitespace();

        while let Some(word) = words.next() {
            if let Some(folder) = word.strip_prefix("-I") {
                let folder = if folder.is_empty() { words.next().unwrap_or(".") } else { folder };
                include.push(source.join(folder));
            } else if word.starts_with("-D") {
                defines.push(word.to_owned());
            }
        }
    }

    (include, defines)
}

/// What the module's build.rs reads as DEP_NGINX_*.
fn tell(
    source: &Path,
    build: &Path,
    include: &[PathBuf],
    defines: &[String],
) -> Result<(), Box<dyn Error>> {
    let config = fs::read_to_string(build.join("ngx_auto_config.h"))?;
    let version = fs::read_to_string(source.join("src/core/nginx.h"))?;

    println!("cargo::metadata=own_next_events=1");
    println!("cargo::metadata=build_dir={}", build.display());
    println!("cargo::metadata=include={}", env::join_paths(include)?.to_string_lossy());
    println!("cargo::metadata=metadata=cflags={}", defines.join(" "));
    println!(
        "cargo::metadata=version=nginx/{}",
        value(&version, "NGINX_VERSION").trim_matches('"')
    );
    println!("cargo::metadata=version_number={}", value(&version, "nginx_version"));

    let known = FEATURES.map(|(feature, _)| format!("\"{feature}\"")).join(",");
    let found: Vec<_> = FEATURES
        .iter()
        .filter(|(_, name)| {
            config.contains(&format!("#define {name} "))
                || config.contains(&format!("#define {name}\n"))
        })
        .map(|(feature, _)| *feature)
        .collect();

    println!("cargo::metadata=features_check={known}");
    println!("cargo::metadata=features={}", found.join(","));

    println!("cargo::rustc-check-cfg=cfg(lacks, values(any()))");
    println!("cargo::rustc-check-cfg=cfg(resolver, values(any()))");

    let has = |header: &str, text: &str| {
        fs::read_to_string(source.join("src").join(header)).is_ok_and(|all| all.contains(text))
    };

    for (name, header, text) in LATER {
        if !has(header, text) {
            println!("cargo::rustc-cfg=lacks=\"{name}\"");
        }
    }

    if has(
        "core/ngx_resolver.h",
        "in_addr_t                *addrs;\n    in_addr_t                 addr;",
    ) {
        println!("cargo::rustc-cfg=resolver=\"ipv4\"");
    }

    Ok(())
}

fn value<'a>(header: &'a str, name: &str) -> &'a str {
    header
        .lines()
        .filter_map(|line| line.strip_prefix("#define ")?.strip_prefix(name))
        .find(|rest| rest.starts_with(' '))
        .map_or("", str::trim)
}

fn bind(include: &[PathBuf], defines: &[String]) -> Result<(), Box<dyn Error>> {
    bindgen::Builder::default()
        .header("wrapper.h")
        .clang_args(include.iter().map(|folder| format!("-I{}", folder.display())))
        .clang_args(defines)
        .blocklist_item("IPPORT_RESERVED")
        .generate_cstr(true)
        .layout_tests(false)
        .use_core()
        .generate()?
        .write_to_file(PathBuf::from(env::var("OUT_DIR")?).join("bindings.rs"))?;

    Ok(())
}
