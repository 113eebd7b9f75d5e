# Owns the make rules: cargo makes a static library, nginx's own link rule puts it into the nginx
# binary or into the module's shared object. Sourced by nginx's auto/make.

if [ -n "$NGX_PROXY_CONNECT_LINK" ]; then

    if [ "$NGX_PROXY_CONNECT_LINK" = DYNAMIC ]; then
        ngx_proxy_connect_bin=$NGX_OBJS/ngx_http_proxy_connect_module$ngx_modext
    else
        ngx_proxy_connect_bin=$NGX_OBJS/nginx$ngx_binext
    fi

    ngx_proxy_connect_options="--manifest-path $NGX_PROXY_CONNECT_CRATE/Cargo.toml"
    ngx_proxy_connect_options="$ngx_proxy_connect_options --target-dir $NGX_PROXY_CONNECT_DIR"

    if [ -n "$NGX_RUST_TARGET" ]; then
        ngx_proxy_connect_options="$ngx_proxy_connect_options --target $NGX_RUST_TARGET"
    fi

    cat << END                                                >> $NGX_MAKEFILE

$ngx_proxy_connect_bin:	$NGX_PROXY_CONNECT_LIB

# cargo does not know which of nginx's headers the bindings were made from
$NGX_PROXY_CONNECT_DIR/headers:	\$(CORE_DEPS) \$(HTTP_DEPS)
	mkdir -p $NGX_PROXY_CONNECT_DIR
	$NGX_CARGO clean --quiet --locked --release -p nginx-sys \\
		$ngx_proxy_connect_options
	touch $NGX_PROXY_CONNECT_DIR/headers

# Sources are looked for each time, so that a new one counts too. While none is newer than the last
# build cargo does not run, so that "make install" as another user needs none.
$NGX_PROXY_CONNECT_LIB:	$NGX_PROXY_CONNECT_DIR/headers proxy_connect_sources
	@if test ! -f $NGX_PROXY_CONNECT_LIB || test -n "\`find \\
		$ngx_addon_dir/Cargo.toml $ngx_addon_dir/Cargo.lock $ngx_addon_dir/build.rs \\
		$ngx_addon_dir/src $ngx_addon_dir/core $ngx_addon_dir/old $NGX_PROXY_CONNECT_DIR/headers \\
		-type f -newer $NGX_PROXY_CONNECT_DIR/built 2>&1\`"; \\
	then \\
		echo "$NGX_CARGO rustc $ngx_proxy_connect_options" && \\
		touch $NGX_PROXY_CONNECT_DIR/started && \\
		NGINX_SOURCE_DIR=\`pwd\` NGINX_BUILD_DIR=\`cd $NGX_OBJS && pwd\` \\
		$NGX_CARGO rustc --locked --release --lib --crate-type staticlib \\
			--no-default-features $ngx_proxy_connect_options $NGX_RUSTC_OPT && \\
		mv $NGX_PROXY_CONNECT_DIR/started $NGX_PROXY_CONNECT_DIR/built; \\
	fi

proxy_connect_sources:

END
fi
