//! Owns what a location says: that its content is a page of the module.

use super::read::because;
use crate::ffi::conf::{Arguments, Directive, Refused};
use crate::ffi::log::Shown;
use crate::ffi::request::Request;
use crate::status::{control, pages};

const STATUS: &str = "proxy_connect_status";
const TUNNELS: &str = "proxy_connect_tunnels";

/// The configuration of a location.
#[derive(Debug, Default)]
pub struct LocationConf {
    page: Option<Page>,
}

/// What its content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// In which format. `None` for the one that the client asks for.
    pub format: Option<Format>,
    /// Whether a client may close tunnels.
    pub control: bool,
}

/// The formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// RFC 8259.
    Json,
    /// The text format of Prometheus.
    Prometheus,
    /// A page for people.
    Html,
}

impl LocationConf {
    /// What the location of `request` says.
    pub fn page_of(request: &Request) -> Option<Page> {
        // SAFETY: the module creates LocationConf as its location configurations.
        unsafe { request.location_conf::<Self>(crate::module()) }?.page
    }

    fn set_page(&mut self, name: &str, page: Page) -> Result<(), Refused> {
        match self.page.replace(page) {
            None => Ok(()),
            Some(_) => because(format!(
                "\"{name}\" in a location that has a page of the module already, give each one a location"
            )),
        }
    }
}

/// `proxy_connect_status [json | prometheus | html]`
pub struct ProxyConnectStatus;

impl Directive<LocationConf> for ProxyConnectStatus {
    fn set(conf: &mut LocationConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        let format = match arguments.first() {
            b"" => None,
            b"json" => Some(Format::Json),
            b"prometheus" => Some(Format::Prometheus),
            b"html" => Some(Format::Html),
            other => {
                return because(format!(
                    "invalid value \"{}\" in the \"{STATUS}\" directive, it must be \"json\", \"prometheus\" or \
                     \"html\"",
                    Shown(other)
                ))
            }
        };

        conf.set_page(STATUS, Page { format, control: false })?;
        set_content::<pages::Status>(STATUS, arguments)
    }
}

/// `proxy_connect_tunnels [json | html] [control=on | control=off]`
pub struct ProxyConnectTunnels;

impl Directive<LocationConf> for ProxyConnectTunnels {
    fn set(conf: &mut LocationConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        let mut page = Page { format: None, control: false };

        for argument in arguments.iter() {
            match argument {
                b"json" => page.format = Some(Format::Json),
                b"html" => page.format = Some(Format::Html),
                b"control=on" => page.control = true,
                b"control=off" => page.control = false,
                other => {
                    return because(format!(
                        "invalid value \"{}\" in the \"{TUNNELS}\" directive, it must be \"json\", \"html\", \
                         \"control=on\" or \"control=off\"",
                        Shown(other)
                    ))
                }
            }
        }

        if page.control {
            control::enable();
        }

        conf.set_page(TUNNELS, page)?;
        set_content::<pages::Tunnels>(TUNNELS, arguments)
    }
}

fn set_content<H: crate::ffi::content::ContentHandler>(
    name: &str,
    arguments: Arguments<'_>,
) -> Result<(), Refused> {
    match arguments.conf().set_content::<H>() {
        Some(()) => Ok(()),
        None => because(format!("\"{name}\" stands in no location")),
    }
}
