//! Owns which addresses one address stands for. A gateway, a tunnel or the system itself would lead a
//! connection to some of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The most that there are: the address itself, four places of an IPv4 address behind a prefix for local use,
/// and one in the interface's part.
const MAX: usize = 6;

/// The addresses that one stands for, itself the first.
#[derive(Clone, Copy, Debug)]
pub struct Forms {
    list: [IpAddr; MAX],
    len: usize,
}

impl Forms {
    fn new(addr: IpAddr) -> Self {
        Self { list: [addr; MAX], len: 1 }
    }

    fn add(&mut self, addr: impl Into<IpAddr>) {
        if let Some(place) = self.list.get_mut(self.len) {
            *place = addr.into();
            self.len += 1;
        }
    }

    /// The addresses.
    pub fn iter(self) -> impl Iterator<Item = IpAddr> {
        self.list.into_iter().take(self.len)
    }
}

/// What `addr` stands for.
///
/// - One in ::ffff:0:0/96 is the IPv4 address and nothing else (RFC 4291, section 2.5.5.2).
/// - A connect to the unspecified address comes to the loopback one.
pub fn of(addr: IpAddr) -> Forms {
    let addr = addr.to_canonical();
    let mut forms = Forms::new(addr);

    match addr {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => forms.add(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => forms.add(Ipv6Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST) | IpAddr::V4(_) => {}
        IpAddr::V6(addr) => add_embedded(&mut forms, addr),
    }

    forms
}

/// Adds the IPv4 addresses that `addr` may carry.
fn add_embedded(forms: &mut Forms, addr: Ipv6Addr) {
    let o = addr.octets();

    match addr.segments() {
        // Teredo, RFC 4380, section 4: the server, and the client's own with all bits inverted.
        [0x2001, 0, ..] => {
            forms.add(ipv4([o[4], o[5], o[6], o[7]]));
            forms.add(ipv4([!o[12], !o[13], !o[14], !o[15]]));
        }
        // 6to4, RFC 3056, section 2.
        [0x2002, ..] => forms.add(ipv4([o[2], o[3], o[4], o[5]])),
        // IPv4-compatible, RFC 4291, section 2.5.5.1; IPv4-translated, RFC 2765, section 2.1; NAT64, RFC
        // 6052, section 2.1.
        [0, 0, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0xffff, 0, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => {
            forms.add(last(o))
        }
        // NAT64 with a prefix of the network's own, RFC 8215: where the IPv4 address lies follows from the prefix's
        // length (RFC 6052, section 2.2), which only the gateway knows. One that begins with 0 is none,
        // but zeros before or behind another.
        [0x64, 0xff9b, 1, ..] => {
            forms.add(last(o));

            [[o[6], o[7], o[9], o[10]], [o[7], o[9], o[10], o[11]], [o[9], o[10], o[11], o[12]]]
                .into_iter()
                .filter(|octets| octets[0] != 0)
                .for_each(|octets| forms.add(ipv4(octets)));
        }
        _ => {}
    }

    // ISATAP, RFC 5214, section 6.1.
    if let [_, _, _, _, 0 | 0x200, 0x5efe, ..] = addr.segments() {
        forms.add(last(o));
    }
}

fn last(octets: [u8; 16]) -> Ipv4Addr {
    let [.., a, b, c, d] = octets;
    ipv4([a, b, c, d])
}

fn ipv4(octets: [u8; 4]) -> Ipv4Addr {
    Ipv4Addr::from(octets)
}
