//! Owns what is decided at build time: which way CONNECT reaches the module in the nginx it is
//! built for, and the name of the shared object.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{exit, Command};

/// The field by which a core with a CONNECT patch, ours or another's, is known.
const PATCHED_FIELD: &str = "connect_host";

/// What only this module's own patch has.
const OWN_PATCH: &str = "ngx_http_connect_authority";

/// The macro that shows the fields of the patch; the module's `config` defines it.
const PATCHED_MACRO: &str = "NGX_HTTP_PROXY_CONNECT";

/// What our patches without "rewrite" define.
const NO_REWRITE: &str = "NGX_HTTP_CONNECT_NO_REWRITE";

/// The field by which a core that parses CONNECT by itself is known.
const NATIVE_FIELD: &str = "allow_connect";

/// The queue of the event loop's next iteration, which the module needs; since nginx 1.17.5.
const NEXT_EVENTS: &str = "ngx_posted_next_events";

/// A field of connections of HTTP/2, as they are since nginx 1.19.10.
const HTTP2_FIELD: &str = "lingering_time";

/// The header of an nginx that loads modules; since nginx 1.9.11.
const MODULES: &str = "ngx_module.h";

/// What else decides whether a patch is whole, beside the headers.
const PATCHED_FILES: [&str; 3] =
    ["ngx_http_parse.c", "ngx_http_request.c", "ngx_http_core_module.c"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");

    export_nginx_features();
    export_versions();
    let way = pick_way();
    pick_transparent();
    let has_http2 = pick_http2();
    compile_c(way, has_http2);

    if env::var_os("CARGO_FEATURE_EXPORT_MODULES").is_some() {
        name_shared_object();
    }

    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("macos") {
        // nginx's symbols are found when it loads the module.
        println!("cargo::rustc-cdylib-link-arg=-undefined");
        println!("cargo::rustc-cdylib-link-arg=dynamic_lookup");
    }
}

/// Passes on what nginx-sys found in the configured tree as `cfg(ngx_feature = "...")`.
fn export_nginx_features() {
    let known = env::var("DEP_NGINX_FEATURES_CHECK").unwrap_or_else(|_| "any()".into());
    println!("cargo::rustc-check-cfg=cfg(ngx_feature, values({known}))");

    for feature in env::var("DEP_NGINX_FEATURES").unwrap_or_default().split(',') {
        if !feature.is_empty() {
            println!("cargo::rustc-cfg=ngx_feature=\"{feature}\"");
        }
    }
}

/// Passes on the version of the module, which stands in one place, and the nginx that it is built for.
fn export_versions() {
    let folder = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());

    // That of old/ has none of its own.
    let is_old = env::var_os("DEP_NGINX_OWN_NEXT_EVENTS").is_some();
    let manifest = folder.join(if is_old { "../Cargo.toml" } else { "Cargo.toml" });
    println!("cargo::rerun-if-changed={}", manifest.display());

    let text = fs::read_to_string(&manifest).unwrap_or_default();
    let version = text.lines().find_map(|line| line.strip_prefix("version = "));

    match version {
        Some(version) => println!("cargo::rustc-env=MODULE_VERSION={}", version.trim_matches('"')),
        None => fail(&format!("{} has no version", manifest.display())),
    }

    println!("cargo::rustc-env=BUILT_FOR={}", nginx_version());
}

/// Picks the way by what the core offers, as `cfg(admit = "...")`; stops the build, with a
/// sentence that says what to do, where there is none.
fn pick_way() -> &'static str {
    println!("cargo::rustc-check-cfg=cfg(admit, values(\"patched\", \"native\", \"stock\"))");
    println!("cargo::rustc-check-cfg=cfg(no_rewrite)");
    println!("cargo::rustc-check-cfg=cfg(core_patch, values(\"another\"))");

    let (Some(request), Some(core)) =
        (find_header("ngx_http_request.h"), find_header("ngx_http_core_module.h"))
    else {
        fail("nginx's HTTP headers are not on the include path of the configured tree");
    };

    for header in [&request, &core] {
        println!("cargo::rerun-if-changed={}", header.display());
    }

    require_next_events();
    require_whole_core();
    require_modules();

    let is_patched = contains(&request, PATCHED_FIELD);

    if is_patched {
        require_macro();
    }

    let way = if is_patched && contains(&request, OWN_PATCH) {
        "patched"
    } else if contains(&core, NATIVE_FIELD) {
        "native"
    } else {
        "stock"
    };

    if contains(&request, NO_REWRITE) {
        println!("cargo::rustc-cfg=no_rewrite");
    }

    // Someone else's patch is left alone: what it does beside the parser is not known.
    if is_patched && way == "stock" {
        println!("cargo::rustc-cfg=core_patch=\"another\"");
    }

    pick_layout(&request);
    pick_try_files(&core);
    println!("cargo::rustc-cfg=admit=\"{way}\"");
    way
}

fn require_macro() {
    if !macro_is_defined() {
        fail(&format!(
            "the source of {} is patched for CONNECT but was configured without it: run \
             ./configure with --add-dynamic-module=PATH_OF_THIS_MODULE, or with \
             --with-cc-opt=-D{PATCHED_MACRO}=1, and build again",
            nginx_version()
        ));
    }
}

/// The bindings for an older nginx, in old/, have their own queue and say so.
fn require_next_events() {
    if env::var_os("DEP_NGINX_OWN_NEXT_EVENTS").is_some() {
        return;
    }

    if !find_header("ngx_event_posted.h").is_some_and(|header| contains(&header, NEXT_EVENTS)) {
        fail(&format!("{} is too old: this module takes nginx 1.17.5 or newer", nginx_version()));
    }
}

/// `auto/patch` knows what a patch has to have put where; ./configure has asked it too, but
/// OpenResty's users patch after that.
fn require_whole_core() {
    let Some(source) = env::var_os("NGINX_SOURCE_DIR").map(PathBuf::from) else {
        return;
    };

    let folder = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let script = ["auto/patch", "../auto/patch"].map(|path| folder.join(path));
    let Some(script) = script.iter().find(|path| path.is_file()) else {
        return;
    };

    println!("cargo::rerun-if-env-changed=NGINX_SOURCE_DIR");
    println!("cargo::rerun-if-changed={}", script.display());

    for file in PATCHED_FILES.map(|file| source.join("src/http").join(file)) {
        if file.is_file() {
            println!("cargo::rerun-if-changed={}", file.display());
        }
    }

    match Command::new("sh").arg(script).current_dir(source).output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => fail(String::from_utf8_lossy(&output.stdout).trim()),
        Err(error) => fail(&format!("{} does not run: {error}", script.display())),
    }
}

/// A shared object of an nginx that loads none would only be found to be of no use at its start.
fn require_modules() {
    if env::var_os("CARGO_FEATURE_EXPORT_MODULES").is_some() && find_header(MODULES).is_none() {
        fail(&format!(
            "{} loads no modules, which came with nginx 1.9.11: link this one into it, with \
             ./configure --add-module=PATH_OF_THIS_MODULE and make",
            nginx_version()
        ));
    }
}

/// Passes on what a request of the core has.
fn pick_layout(request: &Path) {
    println!("cargo::rustc-check-cfg=cfg(request_port)");

    if contains(request, "in_port_t                         port;") {
        println!("cargo::rustc-cfg=request_port");
    }

    println!("cargo::rustc-check-cfg=cfg(proxy_authorization)");

    if contains(request, "ngx_table_elt_t                  *proxy_authorization;") {
        println!("cargo::rustc-cfg=proxy_authorization");
    }

    println!("cargo::rustc-check-cfg=cfg(header_next)");

    if find_header("ngx_hash.h").is_some_and(|hash| contains(&hash, "ngx_table_elt_t  *next;")) {
        println!("cargo::rustc-cfg=header_next");
    }
}

/// Before nginx 1.13.4 `try_files` is the core's own and has a phase of its own.
fn pick_try_files(core: &Path) {
    println!("cargo::rustc-check-cfg=cfg(try_files, values(\"core\"))");

    if contains(core, "ngx_http_core_try_files_phase") {
        println!("cargo::rustc-cfg=try_files=\"core\"");
    }
}

/// Whether CONNECT is taken over HTTP/2, as `cfg(http2)`: HEADERS are shown to any core in disguise.
fn pick_http2() -> bool {
    println!("cargo::rustc-check-cfg=cfg(http2)");

    let has_http2 = env::var("DEP_NGINX_FEATURES")
        .is_ok_and(|features| features.split(',').any(|feature| feature == "http_v2"));

    let is_known =
        find_header("ngx_http_v2.h").is_some_and(|header| contains(&header, HTTP2_FIELD));

    let is_taken = has_http2 && is_known;

    if is_taken {
        println!("cargo::rustc-cfg=http2");
    }

    is_taken
}

/// What nginx can do about local addresses that are not this host's, as `cfg(transparent = "...")`.
fn pick_transparent() {
    println!("cargo::rustc-check-cfg=cfg(transparent, values(\"workers\", \"connections\"))");

    let has = |header, text| find_header(header).is_some_and(|path| contains(&path, text));

    if has("ngx_cycle.h", " transparent;") {
        println!("cargo::rustc-cfg=transparent=\"workers\"");
    } else if has("ngx_event_connect.h", "transparent:1") {
        println!("cargo::rustc-cfg=transparent=\"connections\"");
    }
}

/// The nginx that the module is built for, as a sentence names it.
fn nginx_version() -> String {
    env::var("DEP_NGINX_VERSION").unwrap_or_else(|_| "this nginx".into())
}

fn macro_is_defined() -> bool {
    let Some(build_dir) = env::var_os("DEP_NGINX_BUILD_DIR").map(PathBuf::from) else {
        return false;
    };

    contains(&build_dir.join("ngx_auto_config.h"), &format!("#define {PATCHED_MACRO}"))
        || contains(&build_dir.join("Makefile"), &format!("-D{PATCHED_MACRO}"))
}

/// What bindgen can't reach is reached through C; each file says what and why.
fn compile_c(way: &str, has_http2: bool) {
    let mut build = cc::Build::new();
    let mut sources = vec![
        "src/ffi/request_bits.c",
        "src/ffi/event_bits.c",
        "src/ffi/tls.c",
        "src/ffi/socket/records.c",
        "src/ffi/client_tls.c",
        "src/ffi/rewrite.c",
        "src/ffi/upstream.c",
        "src/auth/hidden.c",
    ];

    if way == "patched" {
        sources.push("src/admit/patched.c");
    }

    if has_http2 {
        sources.push("src/ffi/stream/http2.c");
        sources.push("src/ffi/stream/http2/streams.c");
    }

    for source in sources {
        println!("cargo::rerun-if-changed={source}");
        build.file(source);
    }

    build.warnings(false);

    if let Some(include) = env::var_os("DEP_NGINX_INCLUDE") {
        build.includes(env::split_paths(&include));
    }

    // nginx-sys passes nginx's own definitions on under this name.
    let flags = env::var("DEP_NGINX_METADATA").unwrap_or_default();

    for flag in flags.trim_start_matches("cflags=").split(' ') {
        if let Some(definition) = flag.strip_prefix("-D") {
            let (name, value) = definition.split_once('=').unwrap_or((definition, "1"));
            build.define(name, value);
        }
    }

    build.compile("proxy_connect_c");
}

fn find_header(name: &str) -> Option<PathBuf> {
    let include = env::var_os("DEP_NGINX_INCLUDE")?;
    env::split_paths(&include).map(|dir| dir.join(name)).find(|path| path.is_file())
}

fn contains(file: &Path, text: &str) -> bool {
    fs::read(file).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(text))
}

/// cargo names a shared object `libNAME.so`; nginx and its users know modules as `NAME.so`. The
/// link may point to nothing until cargo has linked the library.
fn name_shared_object() {
    #[cfg(unix)]
    if let Some(profile_dir) = profile_dir() {
        let name = env!("CARGO_PKG_NAME");
        let link = profile_dir.join(format!("{name}.so"));

        let _ = fs::remove_file(&link);
        let _ = std::os::unix::fs::symlink(format!("lib{name}.so"), link);
    }
}

/// `target/release`, given OUT_DIR `target/release/build/PACKAGE-HASH/out`.
fn profile_dir() -> Option<PathBuf> {
    let out_dir = PathBuf::from(env::var_os("OUT_DIR")?);
    out_dir.ancestors().nth(3).map(Path::to_path_buf)
}

fn fail(sentence: &str) -> ! {
    println!("cargo::error={sentence}");
    eprintln!("error: {sentence}");
    exit(1)
}
