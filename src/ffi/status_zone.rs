//! Owns the zones of a configuration in which tunnels are counted: which there are, and their memory.

use std::cell::Cell;
use std::mem::{align_of, size_of};
use std::ptr::NonNull;

use proxy_connect_core::status::entry::{Beginning, Entry, Sample};
use proxy_connect_core::status::worker::Worker;
use proxy_connect_core::status::zone::{Hint, Part};
use proxy_connect_core::status::Zone;

use super::conf::Conf;
use super::configured::Configured;
use super::request::Request;
use super::{process, shared_memory, wall_clock};

/// What the memory's title begins with. The number grows with each change of what lies in it.
const TITLE: &str = "nginx_proxy_connect_status-2";

/// The size of a zone that no directive gives one.
const SIZE: usize = 1024 * 1024;

/// The least that one may have.
pub const LEAST: usize = 64 * 1024;

/// The longest name: memfd_create(2) takes 249 bytes for a title.
pub const NAME_MAX: usize = 128;

thread_local! {
    static ZONES: Configured<StatusZone> = const { Configured::new() };
}

/// A zone of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusZone(NonNull<Inner>);

struct Inner {
    name: String,
    size: Cell<Option<usize>>,
    zone: Cell<Option<Zone>>,
    /// This worker's part of it.
    part: Cell<Option<Part>>,
    /// Where to look for a free place in the list.
    hint: Cell<Hint>,
}

/// A tunnel's place in the list. Dropped, it is given back.
pub struct Listed {
    zone: StatusZone,
    part: Part,
    entry: &'static Entry,
    sample: Sample,
}

/// Begins a configuration.
pub fn begin() {
    ZONES.with(Configured::begin);
}

/// Gives each zone of the configuration its memory.
///
/// # Errors
///
/// The name of the one for which there is none, and why.
pub fn map_all() -> Result<(), (String, std::io::Error)> {
    let zones = ZONES.with(Configured::read);
    zones.into_iter().try_for_each(|zone| zone.map().map_err(|error| (zone.name().into(), error)))
}

/// The configuration that was read is in force.
pub fn commit() {
    ZONES.with(Configured::commit);
}

/// The zones of the configuration that is in force.
pub fn all() -> Vec<StatusZone> {
    ZONES.with(Configured::all)
}

/// Gives back what this worker has of each zone.
pub fn leave() {
    for part in all().into_iter().filter_map(|zone| zone.inner().part.take()) {
        part.leave(process::this());
    }
}

impl StatusZone {
    /// The zone `name`, whose size another directive may give. `None` when there is no memory.
    pub fn named(conf: Conf, name: &str) -> Option<Self> {
        let zones = ZONES.with(Configured::read);

        if let Some(known) = zones.into_iter().find(|zone| zone.name() == name) {
            return Some(known);
        }

        let inner = Inner {
            name: name.into(),
            size: Cell::new(None),
            zone: Cell::new(None),
            part: Cell::new(None),
            hint: Cell::new(Hint::default()),
        };

        let zone = Self(conf.pool().put(inner)?);
        ZONES.with(|zones| zones.add(zone));
        Some(zone)
    }

    fn inner<'a>(self) -> &'a Inner {
        // SAFETY: it lies in the pool of its configuration, which outlives all that is asked of it.
        unsafe { self.0.as_ref() }
    }

    /// Its name.
    pub fn name<'a>(self) -> &'a str {
        &self.inner().name
    }

    /// Its size in bytes, where a directive gave it one.
    pub fn size(self) -> Option<usize> {
        self.inner().size.get()
    }

    /// Gives it a size.
    pub fn set_size(self, size: usize) {
        self.inner().size.set(Some(size));
    }

    fn map(self) -> std::io::Result<()> {
        const { assert!(align_of::<Worker>() <= 4096 && align_of::<Entry>() <= 4096) };

        let size = self.size().unwrap_or(SIZE);
        let start = shared_memory::named(&format!("{TITLE}-{size}-{}", self.name()), size)?;

        let workers = (size / 8 / size_of::<Worker>()).clamp(16, 1024);
        let room = size.saturating_sub(workers * size_of::<Worker>());
        let entries = room / size_of::<Entry>();

        // SAFETY: memory that is never given back, of at least LEAST bytes, of which the parts lie behind each
        // other, aligned: both are made of atomics, for which any bytes will do.
        let zone = unsafe {
            let first = start.cast::<Worker>();
            let behind = first.add(workers).cast::<Entry>();

            Zone::new(
                std::slice::from_raw_parts(first.as_ptr(), workers),
                std::slice::from_raw_parts(behind.as_ptr(), entries),
            )
        };

        self.inner().zone.set(Some(zone));
        Ok(())
    }

    /// Its memory, without what processes that are gone have left. `None` before nginx runs.
    pub fn swept(self) -> Option<Zone> {
        let zone = self.inner().zone.get()?;
        zone.sweep(process::this(), process::is_alive);
        Some(zone)
    }

    /// This worker's part of it. `None` where there are more workers than parts.
    pub fn part(self) -> Option<Part> {
        let inner = self.inner();

        if let Some(part) = inner.part.get() {
            return Some(part);
        }

        let part = inner.zone.get()?.join(process::this(), process::is_alive)?;
        inner.part.set(Some(part));
        inner.hint.set(part.first_hint());
        Some(part)
    }

    /// This worker's part of it, if it has one.
    pub fn joined(self) -> Option<Part> {
        self.inner().part.get()
    }

    /// Lists the tunnel of `request`, which has this place no longer than it lives. Handle and time of `with` are
    /// filled in. `None` when the list is full.
    pub fn list(self, request: Request, with: &Beginning<'_>) -> Option<Listed> {
        let part = self.part()?;
        let mut hint = self.inner().hint.get();
        let handle = request.as_ptr() as u64;
        let entry = part.list(&Beginning { handle, now: wall_clock(), ..*with }, &mut hint);

        self.inner().hint.set(hint);
        entry.map(|entry| Listed { zone: self, part, entry, sample: Sample::default() })
    }

    /// The tunnels of this worker that it was asked to close.
    pub fn to_close(self) -> Vec<Request> {
        let part = self.joined().filter(|part| part.is_of(process::this()));
        let handles = part.into_iter().flat_map(Part::to_close);

        // SAFETY: list() of this process left the handle in a place of its own part, and a `Listed` gives that back
        // before its request is gone.
        handles.filter_map(|handle| unsafe { Request::from_ptr(handle as *mut _) }).collect()
    }
}

impl Listed {
    /// Notes what the tunnel has moved in all.
    pub fn update(&mut self, upload: u64, download: u64) {
        self.entry.update(&mut self.sample, upload, download, wall_clock());
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut hint = self.zone.inner().hint.get();
        self.part.unlist(self.entry, &mut hint);
        self.zone.inner().hint.set(hint);
    }
}
