//! The output of getent(1) for the addresses of a host.

use std::net::IpAddr;

/// The addresses in the output, each once: the first words of its lines.
pub fn parse_addresses(output: &[u8]) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in String::from_utf8_lossy(output).lines() {
        let word = line.split_whitespace().next().unwrap_or_default();
        match word.parse() {
            Ok(ip) if !found.contains(&ip) => found.push(ip),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_listed_once() {
        let output = b"::1  STREAM localhost\n::1  DGRAM\n::1  RAW\n127.0.0.1  STREAM\nwrong\n";
        let found = parse_addresses(output);
        assert_eq!(
            found,
            ["::1".parse::<IpAddr>().unwrap(), [127, 0, 0, 1].into()]
        );
        assert!(parse_addresses(b"").is_empty());
    }
}
