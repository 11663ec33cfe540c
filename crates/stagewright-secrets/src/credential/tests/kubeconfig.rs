//! The forms of a kubeconfig.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

/// A kubeconfig with two contexts. `cluster` and `user` are the entries of the first one.
fn file(cluster: &str, user: &str) -> String {
    let indented = |text: &str| text.lines().map(|line| format!("    {line}\n")).collect::<String>();
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: here\npreferences: {{}}\n\
         clusters:\n- name: one\n  cluster:\n{}- name: two\n  cluster:\n    server: https://two.example.org\n\
         contexts:\n- name: here\n  context:\n    cluster: one\n    user: me\n    namespace: web\n\
         - name: there\n  context:\n    cluster: two\n    user: other\n\
         users:\n- name: me\n  user:\n{}- name: other\n  user:\n    token: tok-of-other\n",
        indented(cluster),
        indented(user)
    )
}

fn signer_for(text: &str, keys: &[(&str, &str)]) -> Result<Arc<dyn RequestSigner>, SigningError> {
    signer_of("kubeconfig", &[&[("file", "kube")], keys].concat(), &[("kube", text)])
}

const SERVER: &str = "server: https://10.0.0.1:6443";

#[test]
fn a_context_gives_the_server_its_authority_and_the_users_login() {
    let signed = |text: &str, keys: &[(&str, &str)]| {
        let signer = signer_for(text, keys).unwrap();
        let signed = signer.sign(&request("GET", "https://10.0.0.1:6443/version")).unwrap();
        (signer.endpoint().unwrap(), signed.headers.first().map(|(_, value)| value.expose().to_owned()))
    };
    let by = |endpoint: &str, value: &str| (endpoint.to_owned(), Some(value.to_owned()));
    let token = file(SERVER, "token: tok-12345678");
    assert_eq!(signed(&token, &[]), by("https://10.0.0.1:6443", "Bearer tok-12345678"));
    assert_eq!(signed(&token, &[("context", "there")]), by("https://two.example.org", "Bearer tok-of-other"));
    let basic = file(SERVER, "username: Aladdin\npassword: open sesame");
    assert_eq!(signed(&basic, &[]), by("https://10.0.0.1:6443", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
    // A server behind another one's path, as those of Rancher.
    let nested = file("server: https://rancher.example/k8s/clusters/c-1/", "token: tok-12345678");
    assert_eq!(signed(&nested, &[]).0, "https://rancher.example/k8s/clusters/c-1");
    let json = r#"{"current-context":"c","clusters":[{"name":"a","cluster":{"server":"https://a.test"}}],
        "contexts":[{"name":"c","context":{"cluster":"a","user":"u"}}],"users":[{"name":"u","user":{"token":"t-123456"}}]}"#;
    assert_eq!(signed(json, &[]), by("https://a.test", "Bearer t-123456"));
}

#[test]
fn certificates_are_those_of_the_connection_and_the_key_is_confidential() {
    // `CA`, `CERT`, and a key in PEM, each in base64.
    let key = "-----BEGIN EC PRIVATE KEY-----\nabc\n-----END EC PRIVATE KEY-----";
    let user = format!("client-certificate-data: Q0VSVA==\nclient-key-data: {}", STANDARD.encode(key));
    let signer = signer_for(&file(&format!("{SERVER}\ncertificate-authority-data: Q0E="), &user), &[]).unwrap();
    assert_eq!(signer.tls().authorities.as_ref().unwrap().expose(), "CA");
    assert_eq!(signer.tls().identity.as_ref().unwrap().expose(), format!("CERT\n{key}"));
    assert_eq!(signer.sign(&request("GET", "https://10.0.0.1:6443/")).unwrap().headers, []);
    assert_eq!(signer.confidential().iter().map(SecretValue::expose).collect::<Vec<_>>(), [key]);
}

#[test]
fn what_is_not_supported_is_refused_and_never_ignored() {
    let refusal = |cluster: &str, user: &str| signer_for(&file(cluster, user), &[]).unwrap_err().message;
    let token = "token: tok-12345678";
    let cluster = |more: &str| format!("{SERVER}\n{more}");
    for (cluster, user, expected) in [
        (SERVER, "exec: {command: aws}", "logs in through a program (`exec`)"),
        (SERVER, "token: tok-12345678\nexec: {command: aws}", "logs in through a program (`exec`)"),
        (SERVER, "auth-provider: {name: gcp}", "logs in through an `auth-provider`"),
        (SERVER, "token: tok-12345678\nas: admin", "acts as another user (`as`), which isn't supported"),
        (SERVER, "token: tok-12345678\nusername: a\npassword: b", "has both a token and a password"),
        (SERVER, "username: a", "has neither a token, a password nor a certificate"),
        (SERVER, "tokenFile: /run/token", "its kubeconfig refers to the file `/run/token`"),
        (SERVER, "client-certificate: a.pem\nclient-key: b.pem", "its kubeconfig refers to the file `a.pem`"),
        (&cluster("certificate-authority: ca.pem"), token, "its kubeconfig refers to the file `ca.pem`"),
        (&cluster("insecure-skip-tls-verify: true"), token, "doesn't verify the server's certificate"),
        (&cluster("tls-server-name: other"), token, "sets `tls-server-name`, which isn't supported"),
        (&cluster("proxy-url: http://proxy:1"), token, "sets `proxy-url`, which isn't supported"),
        ("server: http://10.0.0.1:6443", token, "the server of its kubeconfig doesn't use TLS"),
        ("server: https://a:b@10.0.0.1", token, "the server of its kubeconfig isn't the URL of a host"),
        ("server: unix:///run/k8s", token, "the server of its kubeconfig isn't the URL of a host"),
    ] {
        let message = refusal(cluster, user);
        assert!(message.starts_with("the credential `api` can't be used: "), "{message}");
        assert!(message.ends_with(expected) && !message.contains("tok-12345678"), "{message}");
    }
    let missing = signer_for(&file(SERVER, token), &[("context", "nowhere")]).unwrap_err();
    assert_eq!(missing.message, "the credential `api` can't be used: the kubeconfig has no context `nowhere`");
    let broken = signer_for("clusters: [tok-12345678", &[]).unwrap_err();
    assert_eq!(broken.message, "the credential `api` can't be used: its secret isn't a valid kubeconfig");
}

#[test]
fn the_server_must_be_among_the_origins_if_there_are_any() {
    let text = file("server: https://api.example.org:6443", "token: tok-12345678");
    let pinned = |origin: &str| {
        let declared = CredentialDeclaration {
            kind: CredentialKind::Kubeconfig { file: "kube".to_owned(), context: None },
            origins: vec![origin.parse().unwrap()],
            ca: None,
        };
        signer("api", &declared, &|_| Ok(text.as_str().into()), &SourceContext::default())
    };
    assert!(pinned("https://api.example.org:6443").is_ok());
    let refused = pinned("https://api.example.org").unwrap_err().message;
    let expected = "its kubeconfig is https://api.example.org:6443, which isn't among its `origins`";
    assert!(refused.ends_with(expected), "{refused}");
}
