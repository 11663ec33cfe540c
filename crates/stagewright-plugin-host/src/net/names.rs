//! The name server of a sandbox. It knows the hosts whose ports are forwarded, and reports each other name that a program
//! looks up.
//!
//! Programs reach granted hosts through the proxy, which resolves names itself, or at an address inside that stands for the
//! host. Any other lookup in the sandbox comes from a program that ignores the proxy's variables. Without this server it
//! would fail like a broken network. The answer is then that the name doesn't exist, because resolvers repeat every other
//! refusal for seconds; nothing is forwarded.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use tokio::net::UdpSocket;

use super::background::Background;
use super::egress::EgressGuard;

/// The longest query in bytes (RFC 1035, section 4.2.1).
const QUERY: usize = 512;
/// The bytes before the question.
const HEADER: usize = 12;
/// The type of queries for an IPv4 address, and that for an IPv6 address (RFC 1035 and 3596).
const ADDRESSES: [u16; 2] = [IPV4, 28];
const IPV4: u16 = 1;
/// How many seconds an answer holds: the addresses are the attempt's, and don't change.
const LIFETIME: u32 = 3600;

/// The addresses inside that stand for hosts, by their names in lower case.
pub(crate) type Known = BTreeMap<String, Ipv4Addr>;

/// A query, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
struct NameQuery {
    /// The looked-up host; none if the query isn't for an address, or the name isn't that of a host.
    host: Option<String>,
    /// Whether an IPv4 address is looked up.
    is_for_ipv4: bool,
    /// The answer that the name doesn't exist.
    refusal: Vec<u8>,
}

/// Answers the queries at `socket` until the handle is dropped. Must be called within the async runtime.
pub(crate) fn serve(socket: UdpSocket, egress: Arc<EgressGuard>, known: Known) -> Background {
    Background::spawn(async move {
        let mut query = [0; QUERY];
        loop {
            // An error is that of an earlier answer, whose receiver is gone.
            let Ok((length, from)) = socket.recv_from(&mut query).await else { continue };
            let Some(query) = question(&query[..length]) else { continue };
            let address = query.host.as_ref().and_then(|host| known.get(host));
            if let (Some(host), None) = (&query.host, address) {
                egress.looked_up(host);
            }
            let answer = address.map_or_else(|| query.refusal.clone(), |address| query.answer(*address));
            let _ = socket.send_to(&answer, from).await;
        }
    })
}

/// None for what isn't a query with one question.
fn question(query: &[u8]) -> Option<NameQuery> {
    let header: [u8; HEADER] = query.get(..HEADER)?.try_into().ok()?;
    let [.., questions_high, questions_low, _, _, _, _, _, _] = header;
    let is_response = header[2] & 0x80 != 0;
    if is_response || [questions_high, questions_low] != [0, 1] {
        return None;
    }
    let mut labels = Vec::new();
    let mut at = HEADER;
    // A name in a question isn't compressed, so a length has at most six bits.
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        match length {
            0 => break,
            1..=63 => labels.push(query.get(at..at + length)?),
            _ => return None,
        }
        at += length;
    }
    let kind = u16::from_be_bytes(query.get(at..at + 2)?.try_into().ok()?);
    let end = at + 4;
    let mut answer = query.get(..end)?.to_vec();
    // A response, with the query's operation and its wish for recursion, and recursion available; code 3 is a name error.
    answer[2] = 0x80 | (answer[2] & 0x79);
    answer[3] = 0x80 | 3;
    // No records.
    answer[6..HEADER].fill(0);
    let is_of_host = |label: &&[u8]| label.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte));
    let is_host = ADDRESSES.contains(&kind) && !labels.is_empty() && labels.iter().all(is_of_host);
    let host = is_host.then(|| String::from_utf8_lossy(&labels.join(&b'.')).to_ascii_lowercase());
    Some(NameQuery { host, is_for_ipv4: kind == IPV4, refusal: answer })
}

impl NameQuery {
    /// The answer that the name has this address, and no IPv6 address.
    fn answer(&self, address: Ipv4Addr) -> Vec<u8> {
        let mut answer = self.refusal.clone();
        answer[3] &= 0xf0;
        if self.is_for_ipv4 {
            answer[7] = 1;
            // The name is the question's.
            answer.extend([0xc0, u8::try_from(HEADER).unwrap_or_default()]);
            answer.extend([IPV4, 1].map(u16::to_be_bytes).concat());
            answer.extend(LIFETIME.to_be_bytes());
            answer.extend([0, 4]);
            answer.extend(address.octets());
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(name: &str, kind: u16) -> Vec<u8> {
        let mut query = vec![0x12, 0x34, 0x01, 0x20, 0, 1, 0, 0, 0, 0, 0, 1];
        for label in name.split('.').filter(|label| !label.is_empty()) {
            query.push(u8::try_from(label.len()).unwrap());
            query.extend(label.as_bytes());
        }
        query.push(0);
        query.extend(kind.to_be_bytes());
        query.extend([0, 1]);
        query
    }

    #[test]
    fn a_name_does_not_exist_and_is_known() {
        let asked = query("API.example.org", 1);
        // An additional record, as resolvers send for larger answers.
        let with_record = [asked.clone(), vec![0, 0, 41, 4, 0xd0, 0, 0, 0, 0, 0, 0]].concat();
        let NameQuery { host, refusal, .. } = question(&with_record).unwrap();
        assert_eq!(host.as_deref(), Some("api.example.org"));
        assert_eq!(refusal[..HEADER], [0x12, 0x34, 0x81, 0x83, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(refusal[HEADER..], asked[HEADER..]);
    }

    #[test]
    fn a_host_whose_port_is_forwarded_has_an_address() {
        let asked = query("db.example.org", 1);
        let answer = question(&asked).unwrap().answer(Ipv4Addr::new(127, 1, 0, 1));
        assert_eq!(answer[..HEADER], [0x12, 0x34, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0x0e, 0x10, 0, 4, 127, 1, 0, 1];
        assert_eq!(answer[HEADER..], [&asked[HEADER..], &record].concat());
        // The name exists, and has no IPv6 address.
        let answer = question(&query("db.example.org", 28)).unwrap().answer(Ipv4Addr::new(127, 1, 0, 1));
        assert_eq!(answer[2..HEADER], [0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn what_is_not_a_lookup_of_a_host_is_answered_and_not_reported() {
        for (name, kind) in [("1.0.0.127.in-addr.arpa", 12), ("a b.org", 1), ("", 1), ("_x._tcp.example.org", 33)] {
            assert_eq!(question(&query(name, kind)).unwrap().host, None, "{name}");
        }
    }

    #[test]
    fn what_is_not_a_query_is_ignored() {
        let whole = query("example.org", 1);
        for length in 0..whole.len() {
            assert_eq!(question(&whole[..length]), None, "{length} bytes");
        }
        let mut response = whole.clone();
        response[2] |= 0x80;
        assert_eq!(question(&response), None);
        let mut compressed = whole;
        compressed[HEADER] = 0xc0;
        assert_eq!(question(&compressed), None);
    }
}
