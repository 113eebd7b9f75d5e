//! Owns memory from nginx's pools: values that live, and are dropped, with a request or a
//! configuration.

use std::ffi::c_void;
use std::ptr::NonNull;

use nginx_sys::{ngx_pool_cleanup_t, ngx_pool_t};

use super::boundary::guard;
use super::log::Log;

/// A pool handle.
#[derive(Clone, Copy, Debug)]
pub struct Pool(NonNull<ngx_pool_t>);

impl Pool {
    /// # Safety
    ///
    /// `pool` must be a pool that outlives the use of the handle.
    pub unsafe fn from_ptr(pool: *mut ngx_pool_t) -> Option<Self> {
        NonNull::new(pool).map(Self)
    }

    /// The pointer that nginx's functions take.
    pub fn as_ptr(self) -> *mut ngx_pool_t {
        self.0.as_ptr()
    }

    /// Moves `value` into the pool; it is dropped when the pool is destroyed.
    ///
    /// Returns `None` when there is no memory.
    pub fn put<T>(self, value: T) -> Option<NonNull<T>> {
        const {
            assert!(std::mem::align_of::<T>() <= nginx_sys::NGX_ALIGNMENT);
            // nginx allocates nothing for a cleanup of no size.
            assert!(std::mem::size_of::<T>() > 0);
        }

        // SAFETY: a live pool. The cleanup's data has room for a T, aligned to NGX_ALIGNMENT.
        let cleanup = unsafe {
            nginx_sys::ngx_pool_cleanup_add(self.as_ptr(), std::mem::size_of::<T>()).as_mut()?
        };

        let place = NonNull::new(cleanup.data.cast::<T>())?;

        // SAFETY: fresh memory of a T's size and alignment.
        unsafe { place.write(value) };

        cleanup.handler = Some(drop_value::<T>);
        Some(place)
    }

    /// The value of type `T` that was put into the pool last, if there is one.
    pub fn find<T>(self) -> Option<NonNull<T>> {
        // SAFETY: a live pool; its cleanups form a list that ends in null.
        let mut next: *mut ngx_pool_cleanup_t = unsafe { self.0.as_ref().cleanup };

        // SAFETY: as above.
        while let Some(cleanup) = unsafe { next.as_ref() } {
            if is_drop_of::<T>(cleanup) {
                return NonNull::new(cleanup.data.cast());
            }

            next = cleanup.next;
        }

        None
    }

    /// Copies `bytes` into the pool. `None` when there is no memory.
    pub fn copy<'a>(self, bytes: &[u8]) -> Option<&'a mut [u8]> {
        // SAFETY: a live pool; ngx_pnalloc() gives `len` bytes, which are written before they
        // are read. Nobody else has them.
        unsafe {
            let place = nginx_sys::ngx_pnalloc(self.as_ptr(), bytes.len().max(1)).cast::<u8>();
            if place.is_null() {
                return None;
            }

            place.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            Some(std::slice::from_raw_parts_mut(place, bytes.len()))
        }
    }
}

fn is_drop_of<T>(cleanup: &ngx_pool_cleanup_t) -> bool {
    let ours: unsafe extern "C" fn(*mut c_void) = drop_value::<T>;
    cleanup.handler.is_some_and(|handler| std::ptr::fn_addr_eq(handler, ours))
}

unsafe extern "C" fn drop_value<T>(data: *mut c_void) {
    // SAFETY: put() wrote a T there; nginx runs a cleanup once.
    guard(Log::of_cycle(), || unsafe { data.cast::<T>().drop_in_place() }, || ());
}
