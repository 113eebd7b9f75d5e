//! Owns registering variables, and the way to their getters and setters.

use std::cell::Cell;
use std::ptr::NonNull;

use nginx_sys::{
    ngx_conf_t, ngx_hash_key_t, ngx_http_request_t, ngx_http_variable_t, ngx_http_variable_value_t,
    ngx_int_t, ngx_uint_t, NGX_HTTP_VAR_CHANGEABLE, NGX_HTTP_VAR_NOCACHEABLE,
};
use ngx::http::{HttpModuleMainConf, NgxHttpCoreModule};

use super::boundary::guard;
use super::conf::Conf;
use super::log::Log;
use super::request::Request;
use super::{bytes, code, str_of};

/// A set of variables, told apart by an index.
pub trait Variables {
    /// The value of a variable, `None` when there is none ("" in a string, nil in Lua). The
    /// bytes live as long as the request.
    ///
    /// # Errors
    ///
    /// No memory.
    fn get(request: Request, index: usize) -> Result<Option<&'static [u8]>, NoMemory>;

    /// Sets a variable.
    fn set(request: Request, index: usize, value: &[u8]);
}

/// There was no memory.
#[derive(Clone, Copy, Debug)]
pub struct NoMemory;

/// Registers the variable `name`, number `index` of `V`. `None` when nginx refused.
///
/// # Safety
///
/// `cf` must be the configuration that a preconfiguration hook got.
pub unsafe fn register<V: Variables>(
    cf: *mut ngx_conf_t,
    name: &'static [u8],
    index: usize,
    settable: bool,
) -> Option<()> {
    let mut flags = NGX_HTTP_VAR_NOCACHEABLE;

    if settable {
        flags |= NGX_HTTP_VAR_CHANGEABLE;
    }

    let mut name = str_of(name);

    // SAFETY: the caller's promise; nginx copies the name.
    let variable =
        unsafe { nginx_sys::ngx_http_add_variable(cf, &mut name, flags as ngx_uint_t).as_mut()? };

    variable.get_handler = Some(get::<V>);
    variable.set_handler = settable.then_some(set::<V>);
    variable.data = index;

    Some(())
}

/// Registers a variable that the core may have by itself under this name: ours stands in its place
/// then. `None` when nginx refused, or when there is no memory.
///
/// # Safety
///
/// As for [`register`].
pub unsafe fn take_over<V: Variables>(
    cf: *mut ngx_conf_t,
    name: &'static [u8],
    index: usize,
) -> Option<()> {
    // SAFETY: the caller's promise; the values are variables. What the core registered stays as it
    // is: it may be static, and outlive this module.
    unsafe {
        let Some(key) = find(cf, name) else {
            return register::<V>(cf, name, index, false);
        };

        let mut variable = *key.value.cast::<ngx_http_variable_t>();
        variable.get_handler = Some(get::<V>);
        variable.set_handler = None;
        variable.data = index;
        variable.flags = NGX_HTTP_VAR_NOCACHEABLE as ngx_uint_t;

        key.value = Conf::from_ptr(cf)?.pool().put(variable)?.as_ptr().cast();
    }

    Some(())
}

/// The least that `variables_hash_max_size` is: with the module's variables, whose names are long, nginx finds no
/// table of its default size, 1024, and would warn of that at each start.
const TABLE_MAX: ngx_uint_t = 4096;

/// Lets nginx's table of variables have room for the module's. `None` without an `http` block.
///
/// # Safety
///
/// `cf` must be the configuration that a postconfiguration hook got: what the directive says is known by then, and the
/// table is not made yet.
pub unsafe fn make_room(cf: *mut ngx_conf_t) -> Option<()> {
    // SAFETY: the caller's promise.
    let main = unsafe { NgxHttpCoreModule::main_conf_mut(cf.as_ref()?)? };
    main.variables_hash_max_size = main.variables_hash_max_size.max(TABLE_MAX);
    Some(())
}

/// A variable of the core that is empty for some requests.
struct Blank {
    own: Getter,
    data: usize,
    is_blank: fn(Request) -> bool,
}

type Getter = unsafe extern "C" fn(
    *mut ngx_http_request_t,
    *mut ngx_http_variable_value_t,
    usize,
) -> ngx_int_t;

/// Has the core's variable `name` be empty for the requests that `is_blank` says. `None` when there is no
/// such variable, or no memory.
///
/// # Safety
///
/// As for [`register`].
pub unsafe fn blank(
    cf: *mut ngx_conf_t,
    name: &'static [u8],
    is_blank: fn(Request) -> bool,
) -> Option<()> {
    // SAFETY: as in take_over().
    unsafe {
        let key = find(cf, name)?;
        let mut variable = *key.value.cast::<ngx_http_variable_t>();
        let pool = Conf::from_ptr(cf)?.pool();

        let blank = Blank { own: variable.get_handler?, data: variable.data, is_blank };
        variable.get_handler = Some(get_or_blank);
        variable.data = pool.put(blank)?.as_ptr().addr();

        key.value = pool.put(variable)?.as_ptr().cast();
    }

    Some(())
}

unsafe extern "C" fn get_or_blank(
    r: *mut ngx_http_request_t,
    value: *mut ngx_http_variable_value_t,
    data: usize,
) -> ngx_int_t {
    // SAFETY: nginx calls a getter with a live request, a value to fill, and the data of its variable, which
    // blank() has put into the configuration's pool.
    unsafe {
        let blank = &*(data as *const Blank);
        let is_blank = || Request::from_ptr(r).is_some_and(blank.is_blank);

        if guard(Log::of_cycle(), is_blank, || false) {
            fill(&mut *value, b"");
            return code::OK;
        }

        (blank.own)(r, value, blank.data)
    }
}

thread_local! {
    /// How many times a variable was read whose value holds for a moment only.
    static PASSING: Cell<usize> = const { Cell::new(0) };
}

/// Notes that a variable is read whose value holds for a moment only: see [`follow`].
pub fn note_passing() {
    PASSING.set(PASSING.get().wrapping_add(1));
}

/// A variable that may be made out of a passing one.
struct Followed {
    own: Getter,
    data: usize,
}

/// Has the variables that are made out of a passing one, as those of `map` and `geo` may be, be made anew each
/// time, as `volatile` has it: nginx keeps them for as long as the request lives. What `set` and other
/// directives have put into a variable stays. `None` when there is no memory.
///
/// # Safety
///
/// `cf` must be the configuration that a postconfiguration hook got.
pub unsafe fn follow(cf: *mut ngx_conf_t) -> Option<()> {
    // SAFETY: as in find(). What was registered stays as it is: it may be static.
    unsafe {
        let pool = Conf::from_ptr(cf)?.pool();
        let cmcf = NgxHttpCoreModule::main_conf_mut(cf.as_ref()?)?;
        let keys = &mut cmcf.variables_keys.as_mut()?.keys;

        for key in keys.as_slice_mut::<ngx_hash_key_t>() {
            let mut variable = *key.value.cast::<ngx_http_variable_t>();

            if let Some(own) = variable.get_handler {
                variable.get_handler = Some(get_followed);
                variable.data = pool.put(Followed { own, data: variable.data })?.as_ptr().addr();
                key.value = pool.put(variable)?.as_ptr().cast();
            }
        }
    }

    Some(())
}

unsafe extern "C" fn get_followed(
    r: *mut ngx_http_request_t,
    value: *mut ngx_http_variable_value_t,
    data: usize,
) -> ngx_int_t {
    let read = || guard(Log::of_cycle(), || PASSING.get(), || 0);
    let before = read();

    // SAFETY: nginx calls a getter with a live request, a value to fill, and the data of its variable, which
    // follow() has put into the configuration's pool.
    unsafe {
        let followed = &*(data as *const Followed);
        let rc = (followed.own)(r, value, followed.data);

        if read() != before {
            (*value).set_no_cacheable(1);
        }

        rc
    }
}

/// Gives `value` a text that lives as long as the request.
fn fill(value: &mut ngx_http_variable_value_t, text: &'static [u8]) {
    value.data = text.as_ptr().cast_mut();
    value.set_len(u32::try_from(text.len()).unwrap_or_default());
    value.set_valid(1);
    value.set_no_cacheable(0);
    value.set_not_found(0);
}

/// The entry of that name in the table of variables.
///
/// # Safety
///
/// As for [`register`].
unsafe fn find<'a>(cf: *mut ngx_conf_t, name: &[u8]) -> Option<&'a mut ngx_hash_key_t> {
    // SAFETY: the caller's promise; the keys are an array of ngx_hash_key_t.
    unsafe {
        let cmcf = NgxHttpCoreModule::main_conf_mut(cf.as_ref()?)?;
        let keys = &mut cmcf.variables_keys.as_mut()?.keys;

        keys.as_slice_mut::<ngx_hash_key_t>()
            .iter_mut()
            .find(|key| bytes(key.key).eq_ignore_ascii_case(name))
    }
}

unsafe extern "C" fn get<V: Variables>(
    r: *mut ngx_http_request_t,
    value: *mut ngx_http_variable_value_t,
    index: usize,
) -> ngx_int_t {
    // SAFETY: nginx calls a getter with a live request, and a value to fill.
    let (request, mut value) = unsafe {
        match (Request::from_ptr(r), NonNull::new(value)) {
            (Some(request), Some(value)) => (request, value),
            _ => return code::ERROR,
        }
    };

    let log = request.connection().log();
    let found = guard(log, || V::get(request, index), || Ok(None));

    // SAFETY: as above; no other reference to the value is held.
    let value = unsafe { value.as_mut() };

    match found {
        Ok(Some(text)) => {
            fill(value, text);
            code::OK
        }
        Ok(None) => {
            value.set_not_found(1);
            code::OK
        }
        Err(NoMemory) => code::ERROR,
    }
}

unsafe extern "C" fn set<V: Variables>(
    r: *mut ngx_http_request_t,
    value: *mut ngx_http_variable_value_t,
    index: usize,
) {
    // SAFETY: nginx calls a setter with a live request, and a value that holds.
    let (request, value) = unsafe {
        match (Request::from_ptr(r), value.as_ref()) {
            (Some(request), Some(value)) => (request, value),
            _ => return,
        }
    };

    guard(request.connection().log(), || V::set(request, index, value.as_bytes()), || ());
}
