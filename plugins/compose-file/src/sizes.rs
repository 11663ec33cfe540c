//! Durations and sizes, as Compose files write them.

use std::time::Duration;

/// A duration, as in `1m30s`, `1.5s` and `500ms`; none if it isn't one.
pub fn parse_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 6] =
        [("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86400.0)];
    let mut rest = text.trim();
    let mut seconds = 0.0;
    if rest.is_empty() {
        return None;
    }
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let count: f64 = rest[..digits].parse().ok()?;
        let (unit, factor) = UNITS.into_iter().find(|(unit, _)| rest[digits..].starts_with(unit))?;
        seconds += count * factor;
        rest = &rest[digits + unit.len()..];
    }
    Duration::try_from_secs_f64(seconds).ok()
}

/// A number of bytes, as in `512M`, `1gb` and `300000`; none if it isn't one. Units are powers of 1,024.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let factor = match text[digits..].trim().trim_end_matches('b').trim_end_matches('i') {
        "" => 1.0,
        "k" => 1024.0,
        "m" => 1_048_576.0,
        "g" => 1_073_741_824.0,
        "t" => 1_099_511_627_776.0,
        _ => return None,
    };
    let count: f64 = text[..digits].parse().ok()?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "digits alone are not negative")]
    Some((count * factor) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_sums_of_counts_with_units() {
        let millis = |text| parse_duration(text).map(|duration| duration.as_millis());
        assert_eq!(
            [millis("1m30s"), millis("1.5s"), millis("500ms"), millis("0")].map(Option::unwrap),
            [90_000, 1500, 500, 0]
        );
        assert_eq!([millis(""), millis("10"), millis("s"), millis("1x"), millis("1s2")], [None; 5]);
    }

    #[test]
    fn bytes_have_binary_units() {
        assert_eq!(
            [parse_bytes("512M"), parse_bytes("1gb"), parse_bytes("300"), parse_bytes("1.5KiB")].map(Option::unwrap),
            [536_870_912, 1_073_741_824, 300, 1536]
        );
        assert_eq!([parse_bytes("M"), parse_bytes("1x"), parse_bytes("-1")], [None; 3]);
    }
}
