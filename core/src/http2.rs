//! What of HTTP/2 knows no nginx: how a client's frames have to look for a core that takes no CONNECT.
//!
//! | module | owns |
//! |---|---|
//! | [`answer`] | the HEADERS that answer a CONNECT |
//! | [`frame`] | the header of a frame, and the frames that are written whole |
//! | [`huffman`] | the Huffman code of HPACK |
//! | [`hpack`] | the decoding of a field block, its dynamic table |
//! | [`fields`] | what becomes of a field block on its way to the core |
//! | [`incoming`] | the bytes of a connection: which go to the core, and which belong to tunnels |
//! | [`data`] | the DATA frames that tunnels send |
//! | [`turns`] | whose turn it is to send, among the streams of a connection |
//! | [`backlog`] | what of a client's bytes waits for the upstream |
//! | [`window`] | when a stream's flow-control window is opened, and how wide |
//! | [`growth`] | how far the windows of one connection's streams grow together |

pub mod answer;
pub mod backlog;
pub mod data;
pub mod fields;
pub mod frame;
pub mod growth;
pub mod hpack;
pub mod huffman;
pub mod incoming;
pub mod turns;
pub mod window;

#[cfg(test)]
mod model;
