//! Owns what a directive's function returns.

use std::ffi::c_char;
use std::ptr;

/// A fault, that was told.
pub const NGX_CONF_ERROR: *mut c_char = ptr::without_provenance_mut(usize::MAX);
