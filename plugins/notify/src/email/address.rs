//! Addresses of e-mail.

/// Whether it is a plain address, as in `ada@example.org`. No other character gets into a header or a command of SMTP.
pub(crate) fn is_valid(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    let is_local = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
    let is_domain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    let fits = |part: &str, is_part: &dyn Fn(char) -> bool| !part.is_empty() && part.chars().all(is_part);
    fits(local, &is_local) && fits(domain, &is_domain) && text.len() <= 254
}

/// What is behind the `@`.
pub(crate) fn domain(address: &str) -> &str {
    address.rsplit_once('@').map_or(address, |(_, domain)| domain)
}
