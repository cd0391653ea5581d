//! Which entries a request is about: the terms, and what they match by
//! themselves. How they hold at levels above or below is for the cursor.

use crate::store::entries::lifecycle::Octets;
use std::fmt;
use std::net::IpAddr;

/// So many comparisons of bytes cost about as much as a look at a node.
const PAIRS_PER_STEP: usize = 64;

/// A name with `*` for any run of bytes and `?` for any one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<u8>);

impl Pattern {
    /// A pattern of these bytes.
    pub fn new(bytes: &[u8]) -> Pattern {
        Pattern(bytes.to_vec())
    }

    /// The name, when the pattern means just one.
    pub fn exact(&self) -> Option<&[u8]> {
        let wild = self.0.iter().any(|byte| matches!(byte, b'*' | b'?'));
        (!wild).then_some(&self.0)
    }

    /// Whether a whole name fits, letters being case-sensitive. Adds to `work`
    /// one step for every 64 pairs of bytes that may have to be compared.
    pub fn matches(&self, name: &[u8], work: &mut usize) -> bool {
        *work += self.0.len() * name.len() / PAIRS_PER_STEP;
        wildcard_match(&self.0, name)
    }
}

/// Whether all of `text` fits a pattern in which `*` stands for any run of bytes
/// and `?` for any one. Takes at most `pattern.len() * text.len()` steps: only
/// the last `*` is ever tried again.
pub fn wildcard_match(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Behind the last `*`, and how much of the text it stands for ends where.
    let mut retry = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                p += 1;
                retry = Some((p, t));
            }
            Some(&byte) if byte == b'?' || byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match &mut retry {
                Some((behind, end)) => {
                    *end += 1;
                    (p, t) = (*behind, *end);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

/// A network of addresses. One mapped from IPv4 is that IPv4 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// An address in it.
    address: IpAddr,
    /// How many leading bits count.
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
        // Behind ::ffff:0:0/96 lie the IPv4 addresses; fewer bits mean more than
        // those, and no entry has an address that is one of the rest.
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

    /// Whether an address lies in it; one mapped from IPv4 is that IPv4 address.
    pub fn contains_ip(&self, address: IpAddr) -> bool {
        self.contains(Octets::of(address.to_canonical()).as_slice())
    }

    /// Whether the address of an entry, by its 4 or 16 bytes, lies in it.
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

/// The terms of a request, all of which must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The user's name.
    pub user: Option<Pattern>,
    /// The domain's name.
    pub domain: Option<Pattern>,
    /// The session's id.
    pub session: Option<Vec<u8>>,
    /// The session's service.
    pub service: Option<Pattern>,
    /// Where the session comes from.
    pub ip: Option<Network>,
    /// The last update is not before, in seconds since 1970.
    pub since_secs: u64,
    /// Connected now.
    pub connected: bool,
}

impl Filter {
    /// Whether a term is about sessions themselves: an entry above fits when one of
    /// its sessions fits all terms.
    pub fn is_of_sessions(&self) -> bool {
        self.session.is_some() || self.service.is_some() || self.ip.is_some()
    }

    /// Whether there are no terms, so that every entry fits.
    pub fn is_empty(&self) -> bool {
        *self == Filter::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::Random;

    /// The definition, by recursion.
    fn obviously(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => {
                obviously(rest, text) || (!text.is_empty() && obviously(pattern, &text[1..]))
            }
            (Some((b'?', rest)), Some((_, behind))) => obviously(rest, behind),
            (Some((byte, rest)), Some((same, behind))) => byte == same && obviously(rest, behind),
            _ => false,
        }
    }

    #[test]
    fn wildcards_agree_with_their_definition() {
        let mut random = Random::seeded("wildcards");
        for _ in 0..50_000 {
            let mut word = |letters: &[u8], most| -> Vec<u8> {
                (0..random.below(most))
                    .map(|_| letters[random.below(letters.len() as u64) as usize])
                    .collect()
            };
            let (pattern, text) = (word(b"ab*?", 8), word(b"ab", 10));
            assert_eq!(
                wildcard_match(&pattern, &text),
                obviously(&pattern, &text),
                "{} on {}",
                pattern.escape_ascii(),
                text.escape_ascii()
            );
        }
    }

    #[test]
    fn a_hostile_pattern_costs_no_more_than_lengths_multiplied() {
        let pattern = [b"*a".repeat(2000), b"b".to_vec()].concat();
        assert!(!wildcard_match(&pattern, &vec![b'a'; 8000]));
    }

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
