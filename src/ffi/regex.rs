//! Owns regular expressions of the configuration, which are nginx's.

use std::fmt;

use super::conf::Conf;
use super::log::Log;

#[cfg(ngx_feature = "pcre")]
use std::{mem::MaybeUninit, ptr::NonNull};

#[cfg(ngx_feature = "pcre")]
use nginx_sys::{ngx_array_t, ngx_regex_compile_t, ngx_regex_elt_t};

/// How long a message about a bad expression is at most.
#[cfg(ngx_feature = "pcre")]
const MESSAGE_MAX: usize = nginx_sys::NGX_MAX_CONF_ERRSTR as usize;

/// A compiled regular expression.
pub struct Regex {
    /// In the configuration's pool, with a zero behind it.
    pattern: &'static [u8],
    #[cfg(ngx_feature = "pcre")]
    regex: NonNull<nginx_sys::ngx_regex_t>,
}

/// A match was given up: it took too many steps, or too much memory. The log has nginx's alert.
#[derive(Clone, Copy, Debug)]
pub struct NoVerdict;

impl Regex {
    /// The expression as it is written.
    pub fn pattern(&self) -> &[u8] {
        self.pattern
    }
}

#[cfg(ngx_feature = "pcre")]
impl Regex {
    /// Compiles `pattern`.
    ///
    /// # Errors
    ///
    /// nginx's words for what is wrong with it.
    pub fn compile(conf: Conf, pattern: &[u8]) -> Result<Self, String> {
        let copy = conf.pool().copy(&[pattern, b"\0"].concat()).ok_or("no memory is left")?;
        let mut message = [0; MESSAGE_MAX];
        let mut compile = MaybeUninit::<ngx_regex_compile_t>::zeroed();

        // SAFETY: all-zero bytes are an ngx_regex_compile_t, as nginx itself makes them. The pattern is in the
        // configuration's pool, ends in a zero, and lives as long as the expression.
        let regex = unsafe {
            let compile = compile.assume_init_mut();
            compile.pattern.data = copy.as_mut_ptr();
            compile.pattern.len = pattern.len();
            compile.pool = conf.pool().as_ptr();
            compile.err.data = message.as_mut_ptr();
            compile.err.len = MESSAGE_MAX;

            if nginx_sys::ngx_regex_compile(compile) != super::code::OK {
                return Err(String::from_utf8_lossy(super::bytes(compile.err)).into_owned());
            }

            compile.regex
        };

        let regex = NonNull::new(regex).ok_or("no memory is left")?;
        Ok(Self { pattern: &copy[..pattern.len()], regex })
    }

    /// Whether it matches `text`.
    ///
    /// # Errors
    ///
    /// [`NoVerdict`] where nginx can't tell.
    pub fn matches(&self, text: &[u8], log: Log) -> Result<bool, NoVerdict> {
        let mut element =
            ngx_regex_elt_t { regex: self.regex.as_ptr(), name: self.pattern.as_ptr().cast_mut() };
        let mut text = super::str_of(text);

        // SAFETY: all-zero bytes are an ngx_array_t; one of a single element that is not added to. nginx only reads
        // the text, and the name, which ends in a zero.
        let rc = unsafe {
            let mut list = MaybeUninit::<ngx_array_t>::zeroed().assume_init();
            list.elts = std::ptr::from_mut(&mut element).cast();
            list.nelts = 1;
            nginx_sys::ngx_regex_exec_array(&mut list, &mut text, log.as_ptr())
        };

        match rc {
            super::code::OK => Ok(true),
            super::code::DECLINED => Ok(false),
            _ => Err(NoVerdict),
        }
    }
}

#[cfg(not(ngx_feature = "pcre"))]
impl Regex {
    /// Compiles nothing.
    ///
    /// # Errors
    ///
    /// This nginx has no regular expressions.
    pub fn compile(_: Conf, _: &[u8]) -> Result<Self, String> {
        Err("this nginx is built without the PCRE library".into())
    }

    /// Matches nothing.
    ///
    /// # Errors
    ///
    /// None.
    pub fn matches(&self, _: &[u8], _: Log) -> Result<bool, NoVerdict> {
        Ok(false)
    }
}

impl fmt::Debug for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Regex").field(&self.pattern.escape_ascii().to_string()).finish()
    }
}
