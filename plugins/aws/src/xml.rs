//! Answers in XML.

use quick_xml::Reader;
use quick_xml::events::Event;
use stagewright_sdk::{Error, Result};

/// How deeply elements may be nested.
const DEPTH: usize = 64;

/// The texts of all elements at a path of local names from the root, as in `["ListBucketResult", "Contents", "Key"]`.
///
/// # Errors
/// If the document isn't XML, or is nested too deeply.
pub fn texts(document: &str, path: &[&str]) -> Result<Vec<String>> {
    read(document, path).map_err(|error| Error::internal(format!("invalid XML in an answer: {error}")))
}

/// Text as it is written in XML.
pub fn escaped(text: &str) -> std::borrow::Cow<'_, str> {
    quick_xml::escape::escape(text)
}

fn read(document: &str, path: &[&str]) -> std::result::Result<Vec<String>, quick_xml::Error> {
    let mut reader = Reader::from_str(document);
    reader.config_mut().expand_empty_elements = true;
    let (mut found, mut open): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    loop {
        let is_at_path = open == path;
        match reader.read_event()? {
            Event::Start(element) if open.len() < DEPTH => {
                open.push(String::from_utf8_lossy(element.local_name().as_ref()).into_owned());
                if open == path {
                    found.push(String::new());
                }
            }
            Event::Start(_) => {
                let error = std::io::Error::other(format!("more than {DEPTH} nested elements"));
                return Err(quick_xml::Error::from(error));
            }
            Event::End(_) => drop(open.pop()),
            Event::Text(text) if is_at_path => append(&mut found, &text.xml10_content()?),
            Event::CData(text) if is_at_path => append(&mut found, &text.decode()?),
            Event::GeneralRef(reference) if is_at_path => {
                let name = reference.decode()?;
                let letter = reference.resolve_char_ref().ok().flatten().map(String::from);
                let letter = letter.or_else(|| quick_xml::escape::resolve_predefined_entity(&name).map(str::to_owned));
                append(&mut found, &letter.unwrap_or_default());
            }
            Event::Eof => return Ok(found),
            _ => {}
        }
    }
}

fn append(found: &mut [String], text: &str) {
    if let Some(last) = found.last_mut() {
        last.push_str(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
        <ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>www</Name>
        <Contents><Key>a &amp; b.html</Key><ETag>&#34;1&#34;</ETag></Contents><Contents><Key/></Contents>
        <CommonPrefixes><Key>not this</Key></CommonPrefixes></ListBucketResult>"#;

    #[test]
    fn texts_are_found_by_their_path() {
        let keys = texts(LISTING, &["ListBucketResult", "Contents", "Key"]);
        assert_eq!(keys, Ok(vec!["a & b.html".to_owned(), String::new()]));
        assert_eq!(texts(LISTING, &["ListBucketResult", "Contents", "ETag"]), Ok(vec!["\"1\"".to_owned()]));
        assert_eq!(texts(LISTING, &["Contents"]), Ok(Vec::new()));
    }

    #[test]
    fn what_is_not_xml_or_nested_too_deeply_is_an_error() {
        assert!(texts("<a><b></a>", &["a"]).is_err());
        assert!(texts(&"<a>".repeat(DEPTH + 1), &["a"]).is_err());
    }
}
