//! Signatures, compared with the examples that AWS publishes.

use super::*;

/// Seconds from the epoch to 24 May 2013, the date of the examples of S3.
const S3_DATE: u64 = 1_369_353_600;

struct Example {
    service: &'static str,
    key: [&'static str; 2],
    now: u64,
}

/// "Signature Version 4 test suite", whose date is 30 August 2015, 12:36.
const SUITE: Example = Example {
    service: "service",
    key: ["AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"],
    now: 1_440_938_160,
};
/// "Signature Calculations for the Authorization Header: Transferring Payload in a Single Chunk".
const S3: Example =
    Example { service: "s3", key: ["AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"], now: S3_DATE };

impl Example {
    fn sign(&self, request: RequestToSign, session: Option<&str>) -> SignedHeaders {
        let mut keys = vec![
            ("access-key-id", "id"),
            ("secret-access-key", "key"),
            ("region", "us-east-1"),
            ("service", self.service),
        ];
        keys.extend(session.map(|_| ("session-token", "session")));
        let mut secrets = vec![("id", self.key[0]), ("key", self.key[1])];
        secrets.extend(session.map(|token| ("session", token)));
        let signer = signer_of("aws-sigv4", &keys, &secrets).unwrap();
        assert!(signer.covers_content() && !format!("{signer:?}").contains(self.key[1]));
        signer.sign(&RequestToSign { now: UNIX_EPOCH + Duration::from_secs(self.now), ..request }).unwrap()
    }

    /// The signed headers and the signature.
    fn signature(&self, request: RequestToSign) -> (String, String) {
        let signed = self.sign(request, None);
        let authorization =
            headers(&signed).into_iter().find(|(name, _)| *name == "authorization").unwrap().1.to_owned();
        let part = |name: &str| authorization.split(name).nth(1).unwrap().split(',').next().unwrap().to_owned();
        assert_eq!(signed.confidential[0].expose(), part("Signature="), "it is masked");
        (part("SignedHeaders="), part("Signature="))
    }
}

fn with(request: RequestToSign, headers: &[(&str, &str)], body: BodyDigest) -> RequestToSign {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    RequestToSign { headers, body, ..request }
}

#[test]
fn the_examples_of_the_test_suite_have_the_published_signatures() {
    for (url, signature) in [
        ("https://example.amazonaws.com/", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        (
            "https://example.amazonaws.com/?Param2=value2&Param1=value1",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
    ] {
        assert_eq!(SUITE.signature(request("GET", url)), ("host;x-amz-date".to_owned(), signature.to_owned()), "{url}");
    }
    // "Examples of how to derive a signing key", for IAM.
    let iam = Example { service: "iam", ..SUITE };
    let list = request("GET", "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08");
    let kind = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
    let (signed, signature) = iam.signature(with(list, &kind, BodyDigest::Empty));
    assert_eq!(signed, "content-type;host;x-amz-date");
    assert_eq!(signature, "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7");
}

#[test]
fn the_examples_of_s3_have_the_published_signatures() {
    // SHA-256 of "Welcome to Amazon S3.", as the example states it.
    let welcome = [
        0x44, 0xce, 0x7d, 0xd6, 0x7c, 0x95, 0x9e, 0x0d, 0x35, 0x24, 0xff, 0xac, 0x17, 0x71, 0xdf, 0xbb, 0xa8, 0x7d,
        0x2b, 0x6b, 0x4b, 0x4e, 0x99, 0xe4, 0x20, 0x34, 0xa8, 0xb8, 0x03, 0xf8, 0xb0, 0x72,
    ];
    let put = [("date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")];
    for (method, target, headers, body, signature) in [
        (
            "GET",
            "/test.txt",
            &[("range", "bytes=0-9")][..],
            BodyDigest::Empty,
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            "PUT",
            "/test$file.text",
            &put,
            BodyDigest::Sha256(welcome),
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        (
            "GET",
            "/?lifecycle",
            &[],
            BodyDigest::Empty,
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        (
            "GET",
            "/?max-keys=2&prefix=J",
            &[],
            BodyDigest::Empty,
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ] {
        let url = format!("https://examplebucket.s3.amazonaws.com{target}");
        assert_eq!(S3.signature(with(request(method, &url), headers, body)).1, signature, "{method} {target}");
    }
}

#[test]
fn the_name_of_an_object_is_signed_as_s3_reads_it() {
    let signature = |path: &str| S3.signature(request("GET", &format!("https://b.s3.amazonaws.com{path}"))).1;
    assert_eq!(signature("/a%20b/c$d"), signature("/a b/c%24d"));
    assert_ne!(signature("/a//b"), signature("/a/b"), "an empty name is a part of the object's");
    let other = Example { service: "execute-api", ..S3 };
    let other = |path: &str| other.signature(request("GET", &format!("https://b.test{path}"))).1;
    assert_eq!(other("/a//b"), other("/a/b"));
    assert_ne!(other("/c$d"), other("/c%24d"), "other services read the path as it is sent");
}

#[test]
fn method_query_headers_and_body_are_all_covered() {
    let base = || with(request("PUT", "https://b.test/x?a=1"), &[("x-a", "1")], BodyDigest::Sha256([1; 32]));
    let signature = |request| SUITE.signature(request).1;
    let same = signature(base());
    assert_eq!(signature(base()), same);
    for changed in [
        RequestToSign { method: "POST".to_owned(), ..base() },
        RequestToSign { url: "https://b.test/x?a=2".parse().unwrap(), ..base() },
        RequestToSign { url: "https://b.test:8443/x?a=1".parse().unwrap(), ..base() },
        RequestToSign { headers: vec![("x-a".to_owned(), "2".to_owned())], ..base() },
        RequestToSign { body: BodyDigest::Sha256([2; 32]), ..base() },
    ] {
        assert_ne!(signature(changed.clone()), same, "{changed:?}");
    }
}

#[test]
fn a_session_token_is_sent_signed_and_masked() {
    let signed = SUITE.sign(request("GET", "https://b.test/"), Some("session-1234"));
    let headers = headers(&signed);
    assert!(headers.contains(&("x-amz-security-token", "session-1234")), "{headers:?}");
    let authorization = headers.iter().find(|(name, _)| *name == "authorization").unwrap().1;
    assert!(authorization.contains("SignedHeaders=host;x-amz-date;x-amz-security-token"), "{authorization}");
}
