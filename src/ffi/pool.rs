//! Owns memory from nginx's pools: values that live, and are dropped, with a request or a
//! configuration.

use std::any::TypeId;
use std::ffi::c_void;
use std::ptr::NonNull;

use nginx_sys::{ngx_pool_cleanup_t, ngx_pool_t};

use super::boundary::guard;
use super::boxed;
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
    pub fn put<T: 'static>(self, value: T) -> Option<NonNull<T>> {
        const {
            assert!(std::mem::align_of::<Held<T>>() <= nginx_sys::NGX_ALIGNMENT);
        }

        // SAFETY: a live pool. The cleanup's data has room for what is held, aligned to NGX_ALIGNMENT.
        let cleanup = unsafe {
            nginx_sys::ngx_pool_cleanup_add(self.as_ptr(), std::mem::size_of::<Held<T>>())
                .as_mut()?
        };

        let place = NonNull::new(cleanup.data.cast::<Held<T>>())?;

        // SAFETY: fresh memory of that size and alignment.
        unsafe { place.write(Held::new(value, drop_held::<T>)) };

        cleanup.handler = Some(drop_value);
        Some(value_of(place))
    }

    /// The same where the pool has room. Elsewhere the value gets memory of its own: the pool would take another block for
    /// it, as large as its first, for as long as it lives.
    pub fn put_or_box<T: 'static>(self, value: T) -> Option<NonNull<T>> {
        if self.has_room(std::mem::size_of::<ngx_pool_cleanup_t>() + std::mem::size_of::<Held<T>>())
        {
            return self.put(value);
        }

        let held = boxed(Held::new(value, drop_boxed::<T>))?;

        // SAFETY: a live pool.
        let cleanup = unsafe { nginx_sys::ngx_pool_cleanup_add(self.as_ptr(), 0).as_mut()? };
        let place = NonNull::from(Box::leak(held));

        cleanup.data = place.as_ptr().cast();
        cleanup.handler = Some(drop_value);
        Some(value_of(place))
    }

    /// Whether a block of the pool has room for `len` bytes, in two pieces: ngx_palloc_small().
    fn has_room(self, len: usize) -> bool {
        let len = len + 2 * nginx_sys::NGX_ALIGNMENT;
        // SAFETY: a live pool, whose blocks form a list that ends in null.
        let mut next = unsafe { self.0.as_ref().current };

        // SAFETY: as above.
        while let Some(block) = unsafe { next.as_ref() } {
            if block.d.end.addr() - block.d.last.addr() >= len {
                return true;
            }

            next = block.d.next;
        }

        false
    }

    /// The value of type `T` that was put into the pool last, if there is one.
    pub fn find<T: 'static>(self) -> Option<NonNull<T>> {
        // SAFETY: a live pool; its cleanups form a list that ends in null.
        let mut next: *mut ngx_pool_cleanup_t = unsafe { self.0.as_ref().cleanup };

        // SAFETY: as above.
        while let Some(cleanup) = unsafe { next.as_ref() } {
            if holds::<T>(cleanup) {
                return NonNull::new(cleanup.data.cast()).map(value_of);
            }

            next = cleanup.next;
        }

        None
    }

    /// Copies `parts` into the pool, one behind the other, and a null character behind them that does not count.
    /// `None` when there is no memory.
    #[cfg(http2)]
    pub fn join<'a>(self, parts: &[&[u8]]) -> Option<&'a mut [u8]> {
        let len: usize = parts.iter().map(|part| part.len()).sum();

        // SAFETY: a live pool; ngx_pnalloc() gives as many bytes as are asked for, which are written before they
        // are read. Nobody else has them.
        unsafe {
            let place = nginx_sys::ngx_pnalloc(self.as_ptr(), len + 1).cast::<u8>();

            if place.is_null() {
                return None;
            }

            let mut at = place;

            for part in parts {
                at.copy_from_nonoverlapping(part.as_ptr(), part.len());
                at = at.add(part.len());
            }

            at.write(0);
            Some(std::slice::from_raw_parts_mut(place, len))
        }
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

/// What lies in a pool for a value. One function drops all of them: those of two types can be the same to the
/// linker, and then tell nothing.
#[repr(C)]
struct Held<T> {
    tag: Tag,
    value: T,
}

struct Tag {
    id: TypeId,
    drop: unsafe fn(*mut c_void),
}

impl<T: 'static> Held<T> {
    fn new(value: T, drop: unsafe fn(*mut c_void)) -> Self {
        Self { tag: Tag { id: TypeId::of::<T>(), drop }, value }
    }
}

fn value_of<T>(held: NonNull<Held<T>>) -> NonNull<T> {
    // SAFETY: it points to a place in one piece of memory.
    unsafe { NonNull::new_unchecked(&raw mut (*held.as_ptr()).value) }
}

fn holds<T: 'static>(cleanup: &ngx_pool_cleanup_t) -> bool {
    let ours: unsafe extern "C" fn(*mut c_void) = drop_value;

    cleanup.handler.is_some_and(|handler| std::ptr::fn_addr_eq(handler, ours))
        // SAFETY: put() wrote a tag there, first of all.
        && unsafe { (*cleanup.data.cast::<Tag>()).id == TypeId::of::<T>() }
}

unsafe extern "C" fn drop_value(data: *mut c_void) {
    // SAFETY: put() wrote a tag there, first of all, and its drop is for what it wrote; nginx runs a cleanup
    // once.
    guard(Log::of_cycle(), || unsafe { ((*data.cast::<Tag>()).drop)(data) }, || ());
}

/// # Safety
///
/// `held` must be a `Held<T>` that nobody uses afterwards.
unsafe fn drop_held<T>(held: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe { held.cast::<Held<T>>().drop_in_place() };
}

/// # Safety
///
/// `held` must be a `Held<T>` in memory of its own that nobody uses afterwards.
unsafe fn drop_boxed<T>(held: *mut c_void) {
    // SAFETY: the caller's promise: it was a box before.
    drop(unsafe { Box::from_raw(held.cast::<Held<T>>()) });
}
