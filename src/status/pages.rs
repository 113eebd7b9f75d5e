//! Owns what is shown of the zones: the numbers, and the tunnels that stand.

use std::hash::{BuildHasher, RandomState};

use nginx_sys::NGX_LOG_NOTICE;
use proxy_connect_core::status::json::{self, Listing};
use proxy_connect_core::status::parents::Group;
use proxy_connect_core::status::prometheus;
use proxy_connect_core::status::report::Report;
use proxy_connect_core::status::zone::{Order, Query};

use crate::conf::location::{Format, LocationConf};
use crate::ffi::content::{Content, ContentHandler, Method};
use crate::ffi::log::Shown;
use crate::ffi::request::Request;
use crate::ffi::status_zone::{self, StatusZone};
use crate::ffi::upstream;
use crate::ffi::wall_clock;

/// The page for people, which asks for the rest as JSON.
const PAGE: &str = include_str!("page.html");

/// What stands in it where the page's own script and style are named.
const NONCE: &str = "%NONCE%";

/// How many tunnels are shown at once, unless the client asks for fewer or more, and how many at most.
const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1_000;

/// `proxy_connect_status`: the numbers.
pub struct Status;

impl ContentHandler for Status {
    fn answer(request: Request) -> Result<Content, u16> {
        if request.method() != Method::Get {
            return Err(405);
        }

        let now = wall_clock();
        let asked = LocationConf::page_of(&request).and_then(|page| page.format);

        match asked.unwrap_or_else(|| accepted(&request, Format::Prometheus)) {
            Format::Html => Ok(page()),
            Format::Json => Ok(text(
                json::CONTENT_TYPE,
                json::report(&reports(&request, now)?, &parents(), now),
            )),
            Format::Prometheus => {
                let body =
                    prometheus::write(&reports(&request, now)?, &parents()).map_err(|_| 500_u16)?;
                Ok(text(prometheus::CONTENT_TYPE, body))
            }
        }
    }
}

/// `proxy_connect_tunnels`: those that stand.
pub struct Tunnels;

impl ContentHandler for Tunnels {
    fn answer(request: Request) -> Result<Content, u16> {
        let page = LocationConf::page_of(&request).ok_or(500_u16)?;

        match request.method() {
            Method::Get => (),
            Method::Post if page.control => return close(request),
            _ => return Err(405),
        }

        match page.format.unwrap_or_else(|| accepted(&request, Format::Json)) {
            Format::Html if !accepts(&request, json::CONTENT_TYPE) => Ok(self::page()),
            _ => list(&request, page.control),
        }
    }
}

/// What a client asks for that names a format, `otherwise` where it names none.
fn accepted(request: &Request, otherwise: Format) -> Format {
    if accepts(request, "text/html") {
        Format::Html
    } else if accepts(request, json::CONTENT_TYPE) {
        Format::Json
    } else {
        otherwise
    }
}

fn accepts(request: &Request, content_type: &str) -> bool {
    let accept = request.field(b"accept").unwrap_or_default();
    accept
        .windows(content_type.len())
        .any(|part| part.eq_ignore_ascii_case(content_type.as_bytes()))
}

/// The zones that are asked for, all of them where none is.
fn zones(request: &Request) -> Result<Vec<StatusZone>, u16> {
    let zones = status_zone::all();

    match request.argument(b"zone") {
        None => Ok(zones),
        Some(name) => match zones.into_iter().find(|zone| zone.name().as_bytes() == name) {
            Some(zone) => Ok(vec![zone]),
            None => Err(404),
        },
    }
}

fn reports(request: &Request, now: u64) -> Result<Vec<(String, Report)>, u16> {
    let reported =
        |zone: StatusZone| Some((zone.name().to_owned(), Report::of(zone.swept()?, now)));
    zones(request)?.into_iter().map(|zone| reported(zone).ok_or(500)).collect()
}

/// The groups of parents whose balancers tell of their servers.
fn parents() -> Vec<Group> {
    let seen = |group: upstream::Group| {
        let name = String::from_utf8_lossy(group.name()).into_owned();
        Some(Group { name, states: group.states()? })
    };

    upstream::parents().into_iter().filter_map(seen).collect()
}

fn list(request: &Request, control: bool) -> Result<Content, u16> {
    let zone = *zones(request)?.first().ok_or(404_u16)?;
    let filter = request.argument(b"filter").map(unescaped).unwrap_or_default();
    let number = |name, otherwise| match request.argument(name) {
        None => Ok(otherwise),
        Some(text) => {
            std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(400_u16)
        }
    };

    let order = match request.argument(b"order") {
        None | Some(b"newest") => Order::Newest,
        Some(b"busiest") => Order::Busiest,
        Some(b"slowest") => Order::Slowest,
        Some(_) => return Err(400),
    };

    let first = number(b"first", 0)?;
    let limit = number(b"limit", LIMIT)?.min(LIMIT_MAX);
    let now = wall_clock();
    let memory = zone.swept().ok_or(500_u16)?;

    let listing = Listing {
        zone: zone.name(),
        zones: &status_zone::all().into_iter().map(StatusZone::name).collect::<Vec<_>>(),
        report: &Report::of(memory, now),
        parents: &parents(),
        page: &memory.page(&Query { order, filter: &filter, first, limit }, now),
        first,
        control,
    };

    Ok(text(json::CONTENT_TYPE, json::tunnels(&listing, now)))
}

/// Closes the tunnel that the path names: `.../ID/close`. Its worker does, a moment later.
fn close(request: Request) -> Result<Content, u16> {
    // A page of another site can have a browser send a POST, with what the browser knows of passwords.
    if !is_same_origin(&request) {
        return Err(403);
    }

    let path = request.path().strip_suffix(b"/close").ok_or(404_u16)?;
    let id = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    let number = std::str::from_utf8(id).ok().and_then(|id| id.parse().ok()).ok_or(404_u16)?;

    if !zones(&request)?.into_iter().filter_map(StatusZone::swept).any(|zone| zone.close(number)) {
        return Err(404);
    }

    let message = format_args!("tunnel {} is to be closed, as an operator wants it", Shown(id));
    request.connection().log().write(NGX_LOG_NOTICE, 0, message);
    Ok(text(json::CONTENT_TYPE, format!("{{\"id\":\"{number}\",\"state\":\"closing\"}}")))
}

/// Whether a request is not sent for a page of another site (Fetch Metadata, and RFC 6454, section 7).
fn is_same_origin(request: &Request) -> bool {
    if let Some(site) = request.field(b"sec-fetch-site") {
        return matches!(site.as_slice(), b"same-origin" | b"none");
    }

    match (request.field(b"origin"), request.field(b"host")) {
        (None, _) => true,
        (Some(origin), Some(host)) => [&b"http://"[..], b"https://"]
            .iter()
            .any(|scheme| origin == [scheme, &host[..]].concat()),
        (Some(_), None) => false,
    }
}

/// An argument of a query as it was meant (RFC 3986, section 2.1).
fn unescaped(argument: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let mut text = Vec::with_capacity(argument.len());
    let mut rest = argument;

    while let Some((&first, behind)) = rest.split_first() {
        rest = behind;

        match (first, behind) {
            (b'%', &[high, low, ..]) => match (digit(high), digit(low)) {
                (Some(high), Some(low)) => {
                    text.push(high << 4 | low);
                    rest = &behind[2..];
                }
                _ => text.push(first),
            },
            (b'+', _) => text.push(b' '),
            _ => text.push(first),
        }
    }

    text
}

fn text(content_type: &'static str, body: String) -> Content {
    Content { content_type, fields: common_fields(), body: body.into_bytes() }
}

/// The page for people. Nothing but its own script and style runs in it, and it asks nobody but this server.
fn page() -> Content {
    let nonce = nonce();
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );

    let mut fields = common_fields();
    fields.push(("Content-Security-Policy", policy));
    fields.push(("Referrer-Policy", "no-referrer".into()));

    let body = PAGE.replace(NONCE, &nonce).into_bytes();
    Content { content_type: "text/html; charset=utf-8", fields, body }
}

fn common_fields() -> Vec<(&'static str, String)> {
    vec![
        ("Cache-Control", "no-store".into()),
        ("X-Content-Type-Options", "nosniff".into()),
        ("Vary", "Accept".into()),
    ]
}

/// A word that nobody can guess: the standard library's keys come from the system's random numbers, and are new for
/// each thread, and counted on from there.
fn nonce() -> String {
    let word = || RandomState::new().hash_one(wall_clock());
    format!("{:016x}{:016x}", word(), word())
}
