//! Owns what stands in for TLS in an nginx without OpenSSL.

use proxy_connect_core::relay::Shut;

use super::{Peeked, Socket};

/// An nginx without OpenSSL has no connections over TLS.
impl Socket {
    /// Whether the connection is one over TLS.
    pub(super) fn is_ssl(self) -> bool {
        false
    }

    pub(super) fn peek_ssl(self) -> Peeked {
        Peeked::Nothing
    }

    pub(super) fn is_reset_over_ssl(self) -> bool {
        false
    }

    /// Nothing to do without TLS.
    pub(in crate::ffi) fn allow_partial_writes(self) {}

    /// Nothing to do without TLS.
    pub(in crate::ffi) fn collect_records(self) {}

    /// No connection is one over TLS.
    pub(super) fn send_records(self, _bytes: &[u8]) -> isize {
        crate::ffi::code::ERROR
    }

    /// There are no records.
    pub(in crate::ffi) fn splice_into_ktls(&mut self) {}

    /// There are no keys.
    pub(super) fn send_key_update(self) -> Shut {
        Shut::Done
    }

    pub(super) fn send_close_notify(self) -> Shut {
        self.shutdown_socket()
    }

    pub(super) fn forbid_close_notify(self) {}
}
