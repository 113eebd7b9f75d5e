//! Owns zones of nginx's shared memory that hold a table of buckets.

use std::ffi::c_void;
use std::hash::{BuildHasher, DefaultHasher, Hasher, RandomState};
use std::mem::size_of;
use std::ptr::NonNull;

use nginx_sys::{ngx_int_t, ngx_shm_zone_t, ngx_slab_pool_t};
use proxy_connect_core::relay::{Slot, Zone};

use super::boundary::guard;
use super::conf::Conf;
use super::log::Log;
use super::{bytes, code, str_of};

/// A zone, by its name. It is there once nginx runs.
#[derive(Clone, Copy, Debug)]
pub struct RateZone(NonNull<ngx_shm_zone_t>);

/// What the shared memory begins with; the slots follow.
#[repr(C)]
struct Table {
    /// How many slots there are.
    len: usize,
    /// Keeps a client that may choose its key from choosing its place.
    seed: u64,
}

impl RateZone {
    /// The zone `name` of `size` bytes; with 0 another directive says how many. `None` when nginx refused, and
    /// said why.
    pub fn named(conf: Conf, name: &[u8], size: usize) -> Option<Self> {
        // nginx keeps the name.
        let mut name = str_of(conf.pool().copy(name)?);
        let tag = std::ptr::from_ref(crate::module()).cast::<c_void>().cast_mut();

        // SAFETY: nginx's parser has its own state; the name lives as long as the configuration.
        let zone = unsafe { nginx_sys::ngx_shared_memory_add(conf.as_ptr(), &mut name, size, tag) };

        let zone = Self(NonNull::new(zone)?);

        // SAFETY: as above; one thread, and nobody else has a reference. What the data are does not matter: nginx
        // hands them to the zone of the next configuration, and so tells that there was one.
        unsafe {
            let raw = zone.0.as_ptr();
            (*raw).data = raw.cast();
            (*raw).init = Some(init);
        }

        Some(zone)
    }

    /// The least that a zone may have, in bytes, as ngx_http_limit_req_module has it.
    pub fn least() -> usize {
        // SAFETY: nginx sets it before it reads a configuration.
        8 * unsafe { nginx_sys::ngx_pagesize }
    }

    /// Its size in bytes, 0 where no directive has told it.
    pub fn size(self) -> usize {
        // SAFETY: a zone of the configuration, see named().
        unsafe { self.0.as_ref().shm.size }
    }

    /// Its name.
    pub fn name<'a>(self) -> &'a [u8] {
        // SAFETY: as above; the name lives as long.
        unsafe { bytes(self.0.as_ref().shm.name) }
    }

    /// The table, and what stands for `key` there, which is never 0. `None` before nginx runs.
    pub fn table(self, key: &[u8]) -> Option<(Zone, u64)> {
        // SAFETY: nginx maps a zone before its workers begin, and they never unmap it; init() has put a table
        // there, whose slots are made of atomics.
        let (table, slots) = unsafe {
            let pool = self.0.as_ref().shm.addr.cast::<ngx_slab_pool_t>().as_ref()?;
            let table = pool.data.cast::<Table>().as_ref()?;
            let first = std::ptr::from_ref(table).add(1).cast::<Slot>();
            (table, std::slice::from_raw_parts(first, table.len))
        };

        let mut hasher = DefaultHasher::new();
        hasher.write_u64(table.seed);
        hasher.write(key);

        Some((Zone::new(slots), hasher.finish().max(1)))
    }
}

/// nginx calls it for each zone of a configuration that it begins to use, with the data of the zone before if
/// that is the same memory.
unsafe extern "C" fn init(zone: *mut ngx_shm_zone_t, before: *mut c_void) -> ngx_int_t {
    // SAFETY: nginx passes a zone that is mapped, and begins with a pool of slabs.
    let prepare = || unsafe {
        let pool = (*zone).shm.addr.cast::<ngx_slab_pool_t>();
        let is_there = !before.is_null() || (*zone).shm.exists != 0;

        if is_there && !(*pool).data.is_null() {
            return Some(());
        }

        // All its pages, which nobody else has asked for yet.
        let room = (*pool).end.offset_from((*pool).start);
        let room = usize::try_from(room).ok()? / nginx_sys::ngx_pagesize * nginx_sys::ngx_pagesize;
        let table = nginx_sys::ngx_slab_alloc(pool, room).cast::<Table>();

        if table.is_null() {
            return None;
        }

        let len = room.checked_sub(size_of::<Table>())? / size_of::<Slot>();
        let first = table.add(1).cast::<Slot>();
        // All bytes 0 are an empty slot.
        first.write_bytes(0, len);
        table.write(Table { len, seed: RandomState::new().build_hasher().finish() });
        (*pool).data = table.cast();

        Some(())
    };

    match guard(Log::of_cycle(), prepare, || None) {
        Some(()) => code::OK,
        None => code::ERROR,
    }
}
