//! Owns the header fields of a request and its answer, as nginx's lists hold them.

use std::mem::MaybeUninit;
use std::ptr::NonNull;

use nginx_sys::{ngx_list_part_t, ngx_list_t, ngx_pool_t, ngx_table_elt_t};

use super::{bytes, str_of};

/// A list of fields.
#[derive(Clone, Copy)]
pub struct Fields(NonNull<ngx_list_t>);

/// A field of a list.
#[derive(Clone, Copy)]
pub struct Field(NonNull<ngx_table_elt_t>);

/// A field on its own, which any number of lists may have a copy of. Its texts lie in the request's pool.
pub type Entry = ngx_table_elt_t;

/// How many fields a list that was made anew takes before it grows.
const ROOM: usize = 4;

impl Fields {
    /// # Safety
    ///
    /// A list of fields that lives while the handle is used.
    pub(super) unsafe fn from_ptr(list: *mut ngx_list_t) -> Option<Self> {
        NonNull::new(list).map(Self)
    }

    /// The fields that count: nginx leaves those that were taken away in the list.
    pub fn iter(self) -> impl Iterator<Item = Field> {
        // SAFETY: see from_ptr(); the parts form a list that ends in null.
        let first = unsafe { NonNull::from(&self.0.as_ref().part) };
        let parts = std::iter::successors(Some(first), |part| {
            // SAFETY: as above.
            NonNull::new(unsafe { part.as_ref() }.next)
        });

        parts.flat_map(of_part).filter(|field| field.get().hash != 0)
    }

    /// Adds a field. `None` when there is no memory.
    pub fn push(self, name: &'static [u8], value: &'static [u8]) -> Option<()> {
        // SAFETY: see from_ptr(); nginx gives room for a field, which is written whole.
        unsafe {
            let place = nginx_sys::ngx_list_push(self.0.as_ptr()).cast::<Entry>();

            if place.is_null() {
                return None;
            }

            let mut field = MaybeUninit::<Entry>::zeroed().assume_init();
            field.hash = 1;
            field.key = str_of(name);
            field.value = str_of(value);
            place.write(field);
        }

        Some(())
    }

    /// Has the list hold the fields that `stays` says, and behind them those of `more`. Fields that others
    /// have a pointer to stay where they are; the list has copies. `None` when there is no memory; then it
    /// stays as it was.
    ///
    /// # Safety
    ///
    /// `pool` must live as long as the list.
    pub unsafe fn replace(
        mut self,
        pool: *mut ngx_pool_t,
        stays: impl Fn(Field) -> bool,
        more: &[Entry],
    ) -> Option<()> {
        let kept = || self.iter().filter(|field| stays(*field)).map(|field| *field.get());
        let count = kept().count() + more.len();
        let size = (count + ROOM) * size_of::<Entry>();

        // SAFETY: the caller's promise; the place has room for all that is written.
        let place = unsafe { nginx_sys::ngx_palloc(pool, size) }.cast::<Entry>();

        if place.is_null() {
            return None;
        }

        for (index, entry) in kept().chain(more.iter().copied()).enumerate() {
            // SAFETY: as above.
            unsafe { place.add(index).write(entry) };
        }

        // SAFETY: see from_ptr(); no field of the list is referred to.
        let list = unsafe { self.0.as_mut() };
        list.part =
            ngx_list_part_t { elts: place.cast(), nelts: count, next: std::ptr::null_mut() };
        list.last = &raw mut list.part;
        list.nalloc = count + ROOM;

        Some(())
    }
}

fn of_part(part: NonNull<ngx_list_part_t>) -> impl Iterator<Item = Field> {
    // SAFETY: a part of a live list, with as many fields as it says.
    let part = unsafe { part.as_ref() };
    let first = part.elts.cast::<ngx_table_elt_t>();

    // SAFETY: as above.
    (0..part.nelts).filter_map(move |index| NonNull::new(unsafe { first.add(index) })).map(Field)
}

impl Field {
    fn get(&self) -> &ngx_table_elt_t {
        // SAFETY: a field of a live list; one thread.
        unsafe { self.0.as_ref() }
    }

    /// Gives the field a value that lives as long as its list.
    #[cfg(http2)]
    pub fn set_value(mut self, value: &'static [u8]) {
        // SAFETY: a field of a list that lives; one thread, and no other reference is held.
        unsafe { self.0.as_mut() }.value = str_of(value);
    }

    /// The name.
    pub fn name(&self) -> &[u8] {
        // SAFETY: nginx keeps the text as long as the field.
        unsafe { bytes(self.get().key) }
    }

    /// The value.
    pub fn value(&self) -> &[u8] {
        // SAFETY: as in name().
        unsafe { bytes(self.get().value) }
    }

    /// A copy of it that stands alone.
    pub fn entry(&self) -> Entry {
        single(*self.get())
    }

    /// Whether it has the value of `entry`: the same text, not one that says the same.
    pub fn is_copy_of(&self, entry: &Entry) -> bool {
        std::ptr::eq(self.get().value.data, entry.value.data)
    }

    /// Gives a field of an answer another name.
    pub fn rename(mut self, name: &'static [u8], lower: &'static [u8]) {
        // SAFETY: a field of a live list, to which no reference is held.
        let field = unsafe { self.0.as_mut() };
        field.key = str_of(name);
        // nginx writes it for some answers only; what stood there may be nothing.
        field.lowcase_key = lower.as_ptr().cast_mut();
    }

    /// Takes a field of an answer away, as nginx does.
    pub fn take_away(mut self) {
        // SAFETY: as in rename().
        unsafe { self.0.as_mut() }.hash = 0;
    }
}

/// Gives an entry another name, under which nginx finds it.
pub fn named(mut entry: Entry, name: &'static [u8], lower: &'static [u8]) -> Entry {
    entry.key = str_of(name);
    entry.lowcase_key = lower.as_ptr().cast_mut();
    entry.hash = hash(lower);
    entry
}

/// ngx_hash_key()
fn hash(lower: &[u8]) -> usize {
    lower.iter().fold(0, |hash: usize, &byte| hash.wrapping_mul(31).wrapping_add(byte.into()))
}

/// Since nginx 1.23.0 fields of one name are chained.
#[cfg(header_next)]
fn single(mut entry: Entry) -> Entry {
    entry.next = std::ptr::null_mut();
    entry
}

#[cfg(not(header_next))]
fn single(entry: Entry) -> Entry {
    entry
}
