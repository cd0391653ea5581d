//! Which entries a request is about: its terms, and which names and addresses they match.
//! Which entries of a level fit is for
//! [`filter_eval`](crate::store::query::filter_eval).

use crate::store::entries::lifecycle::Octets;
use crate::store::wildcard::wildcard_match;
use crate::store::Level;
use std::fmt;
use std::net::IpAddr;

/// Comparisons of bytes that cost about as much as a look at a node.
const PAIRS_PER_STEP: usize = 64;

/// A name with `*` for any run of bytes and `?` for any one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<u8>);

impl Pattern {
    /// A pattern of these bytes.
    pub fn new(bytes: &[u8]) -> Pattern {
        Pattern(bytes.to_vec())
    }

    /// The name, when the pattern matches just one.
    pub fn exact(&self) -> Option<&[u8]> {
        let wild = self.0.iter().any(|byte| matches!(byte, b'*' | b'?'));
        (!wild).then_some(&self.0)
    }

    /// Whether a whole name matches; case counts. Adds to `work`
    /// one step for every 64 pairs of bytes that may have to be compared.
    pub fn matches(&self, name: &[u8], work: &mut usize) -> bool {
        *work += self.0.len() * name.len() / PAIRS_PER_STEP;
        wildcard_match(&self.0, name)
    }
}

/// A network of addresses. One mapped from IPv4 is that IPv4 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Bits behind the first `bits` do not count.
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// The network of an address; all of its bits without `bits`. `None` when
    /// there are not so many bits.
    pub fn new(address: IpAddr, bits: Option<u8>) -> Option<Network> {
        let canonical = address.to_canonical();
        let width = |ip: IpAddr| if ip.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(width(address));
        if bits > width(address) {
            return None;
        }
        if canonical == address {
            return Some(Network { address, bits });
        }
        // ::ffff:0:0/96 are the IPv4 addresses; fewer bits mean more than those, and no
        // entry has an address that is one of the rest.
        Some(Network {
            address: canonical,
            bits: bits.saturating_sub(96),
        })
    }

    /// The address, when the network has just one.
    pub fn exact(&self) -> Option<IpAddr> {
        let width = if self.address.is_ipv4() { 32 } else { 128 };
        (self.bits == width).then_some(self.address)
    }

    /// Whether an address is in it; one mapped from IPv4 is that IPv4 address.
    pub fn contains_ip(&self, address: IpAddr) -> bool {
        self.contains(Octets::of(address.to_canonical()).as_slice())
    }

    /// Whether the address of an entry, 4 or 16 bytes, is in it.
    pub fn contains(&self, octets: &[u8]) -> bool {
        let network = Octets::of(self.address);
        let network = network.as_slice();
        let (bytes, bits) = (usize::from(self.bits / 8), self.bits % 8);
        network.len() == octets.len()
            && network[..bytes] == octets[..bytes]
            && (bits == 0 || (network[bytes] ^ octets[bytes]) >> (8 - bits) == 0)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.exact() {
            Some(address) => address.fmt(f),
            None => write!(f, "{}/{}", self.address, self.bits),
        }
    }
}

/// The terms of a request, which an entry has to fit all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub user: Option<Pattern>,
    pub domain: Option<Pattern>,
    pub session: Option<Vec<u8>>,
    pub service: Option<Pattern>,
    /// The name of a command in upper case, at the levels command and cmd.
    pub cmd: Option<Pattern>,
    pub ip: Option<Network>,
    /// The earliest last update, in seconds since 1970.
    pub since_secs: u64,
    pub connected: bool,
}

/// A term about the entries of a level.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Term<'a> {
    Name(&'a Pattern),
    Address(Network),
}

impl<'a> Term<'a> {
    /// Whether the key of an entry fits. Adds to `work` as [`Pattern::matches`].
    pub(crate) fn fits(self, key: &[u8], work: &mut usize) -> bool {
        match self {
            Term::Name(pattern) => pattern.matches(key, work),
            Term::Address(network) => network.contains(key),
        }
    }

    /// The key, when just one fits; `octets` is where that of an address is put.
    pub(crate) fn exact(self, octets: &'a mut Option<Octets>) -> Option<&'a [u8]> {
        match self {
            Term::Name(pattern) => pattern.exact(),
            Term::Address(network) => Some(octets.insert(Octets::of(network.exact()?)).as_slice()),
        }
    }
}

impl Filter {
    /// The term about the entries of a level with totals.
    pub(crate) fn term(&self, level: Level) -> Option<Term<'_>> {
        match level {
            Level::User => self.user.as_ref().map(Term::Name),
            Level::Domain => self.domain.as_ref().map(Term::Name),
            Level::Ip => self.ip.map(Term::Address),
            _ => None,
        }
    }

    /// Whether every entry fits.
    pub fn is_empty(&self) -> bool {
        *self == Filter::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(network: &str, bits: Option<u8>, ip: &str) -> bool {
        let network = Network::new(network.parse().unwrap(), bits).unwrap();
        network.contains(Octets::of(ip.parse().unwrap()).as_slice())
    }

    #[test]
    fn networks_contain_by_leading_bits() {
        assert!(contains("10.1.2.3", None, "10.1.2.3"));
        assert!(!contains("10.1.2.3", None, "10.1.2.2"));
        assert!(contains("10.1.2.0", Some(31), "10.1.2.1"));
        assert!(!contains("10.1.2.0", Some(31), "10.1.2.2"));
        assert!(contains("10.0.0.0", Some(0), "192.168.0.1"));
        assert!(!contains("10.0.0.0", Some(0), "2001:db8::1"));
        assert!(contains("2001:db8::", Some(33), "2001:db8:7fff::1"));
        assert!(!contains("2001:db8::", Some(33), "2001:db8:8000::1"));
        assert!(Network::new("10.0.0.0".parse().unwrap(), Some(33)).is_none());
        assert!(Network::new("::".parse().unwrap(), Some(129)).is_none());
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        assert!(contains("::ffff:10.1.2.3", None, "10.1.2.3"));
        assert!(contains("10.1.2.3", None, "::ffff:10.1.2.3"));
        assert!(contains("::ffff:10.1.0.0", Some(112), "10.1.2.3"));
        assert!(!contains("::ffff:10.1.0.0", Some(112), "10.2.2.3"));
        assert_eq!(
            Network::new("::ffff:10.1.2.3".parse().unwrap(), None)
                .unwrap()
                .exact(),
            Some("10.1.2.3".parse().unwrap())
        );
    }
}
