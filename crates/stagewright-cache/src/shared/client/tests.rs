//! Sharing results between machines, and refusing damaged or foreign ones.

#![expect(clippy::disallowed_methods, reason = "tests read what they made themselves")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use object_store::ObjectStoreExt as _;
use object_store::memory::InMemory;
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use stagewright_engine::RunId;
use tempfile::TempDir;

use super::*;
use crate::tree::TreeNode;

/// A machine with its own results and a shared cache.
struct Machine {
    store: ResultStore,
    shared: SharedCache,
    _folder: TempDir,
}

impl Machine {
    fn new(objects: &Arc<InMemory>) -> Machine {
        let folder = tempfile::tempdir().unwrap();
        let objects: Arc<dyn ObjectStore> = objects.clone();
        Machine { store: ResultStore::new(folder.path()), shared: SharedCache::of(objects, true), _folder: folder }
    }

    /// Stores a result with one file.
    fn keep(&self, key: &Digest, content: &[u8]) -> CachedResult {
        let digest = self.store.add_bytes(content).unwrap();
        let entry = CachedResult {
            key: *key,
            run: RunId("20261121-101500-abcd".into()),
            outputs: BTreeMap::new(),
            files: BTreeMap::from([("out/made".to_owned(), TreeNode::File { mode: 0o644, digest })]),
            artifacts: Vec::new(),
            said: None,
        };
        self.store.keep(&entry).unwrap();
        entry
    }

    async fn send(&self, tier: &Tier, key: Digest) -> Sent {
        self.shared.send(tier, key, &self.store);
        self.shared.finish_sending().await
    }
}

fn sent(results: u64) -> Sent {
    Sent { results, ..Sent::default() }
}

/// The packed result of a key, as it was sent.
async fn packed(objects: &InMemory, key: &Digest) -> Vec<u8> {
    objects.get(&object_path(&Tier::Trusted, key)).await.unwrap().bytes().await.unwrap().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_sent_by_one_machine_is_fetched_by_another() {
    let objects = Arc::new(InMemory::new());
    let (here, there) = (Machine::new(&objects), Machine::new(&objects));
    // Large enough to be sent in several parts.
    let content: Vec<u8> =
        (0..3_000_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let keys = [(Tier::Trusted, Digest::of("key"))];
    let entry = here.keep(&keys[0].1, &content);
    assert_eq!(there.shared.fetch(&keys, &there.store).await, SharedLookup::NotFound);
    assert_eq!(here.send(&Tier::Trusted, keys[0].1).await, sent(1));
    let answer = there.shared.fetch(&keys, &there.store).await;
    assert_eq!(answer, SharedLookup::Found(Tier::Trusted, keys[0].1, entry.clone()));
    assert_eq!(there.store.find(&keys[0].1), Some(entry));
    assert_eq!(fs::read(there.store.blob(&Digest::of(&content))).unwrap(), content);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_run_does_not_use_results_of_an_untrusted_one() {
    let objects = Arc::new(InMemory::new());
    let (pull_request, main) = (Machine::new(&objects), Machine::new(&objects));
    let (base_key, tier) = (Digest::of("key"), Tier::named("../trusted").unwrap());
    let keys = |tier: &Tier| -> Vec<_> {
        tier.sources().into_iter().map(|source| (source.clone(), source.key(&base_key))).collect()
    };
    pull_request.keep(&tier.key(&base_key), b"poison");
    assert_eq!(pull_request.send(&tier, tier.key(&base_key)).await, sent(1));
    let placed = object_path(&tier, &tier.key(&base_key)).to_string();
    assert!(placed.starts_with("tiers/..%2Ftrusted/") && !placed.contains("/../"), "{placed}");
    assert_eq!(main.shared.fetch(&keys(&Tier::Trusted), &main.store).await, SharedLookup::NotFound);
    // Copied to the path of a trusted result, it is refused.
    let bytes = objects.get(&object_path(&tier, &tier.key(&base_key))).await.unwrap().bytes().await.unwrap();
    objects.put(&object_path(&Tier::Trusted, &base_key), bytes.into()).await.unwrap();
    assert_eq!(
        main.shared.fetch(&keys(&Tier::Trusted), &main.store).await,
        SharedLookup::Damaged("it is the result of another key".into())
    );
    // An untrusted run uses results of its own tier, and prefers trusted ones.
    let other = Machine::new(&objects);
    objects.delete(&object_path(&Tier::Trusted, &base_key)).await.unwrap();
    let answer = other.shared.fetch(&keys(&tier), &other.store).await;
    assert!(matches!(&answer, SharedLookup::Found(from, ..) if *from == tier), "{answer:?}");
    main.keep(&base_key, b"sound");
    assert_eq!(main.send(&Tier::Trusted, base_key).await, sent(1));
    let answer = other.shared.fetch(&keys(&tier), &other.store).await;
    assert!(matches!(&answer, SharedLookup::Found(Tier::Trusted, ..)), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_and_inconsistent_results_are_refused() {
    let objects = Arc::new(InMemory::new());
    let here = Machine::new(&objects);
    let key = Digest::of("key");
    here.keep(&key, b"sound\n");
    here.send(&Tier::Trusted, key).await;
    let good = packed(&objects, &key).await;
    let mut plain = Vec::new();
    GzDecoder::new(good.as_slice()).read_to_end(&mut plain).unwrap();
    let altered = |from: &str, to: &str| {
        let text = String::from_utf8(plain.clone()).unwrap();
        assert!(text.contains(from), "{text}");
        let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
        packer.write_all(text.replace(from, to).as_bytes()).unwrap();
        packer.finish().unwrap()
    };
    for (what, bytes) in [
        ("nothing", Vec::new()),
        ("half", good[..good.len() / 2].to_vec()),
        ("an error page", b"<html>".to_vec()),
        ("other content", altered("sound\n", "SOUND\n")),
        ("content that is too short", altered(",6]]", ",5]]")),
        ("content that is too large", altered(",6]]", ",99999999999]]")),
        ("a run with an escape sequence", altered("20261121-", "\\u001b[2J-")),
        ("another format", altered("\"format\":2", "\"format\":1")),
        ("an unnamed content", altered("\"said\":null", &format!("\"said\":{:?}", key.bytes()))),
    ] {
        objects.put(&object_path(&Tier::Trusted, &key), bytes.into()).await.unwrap();
        let there = Machine::new(&objects);
        let answer = there.shared.fetch(&[(Tier::Trusted, key)], &there.store).await;
        assert!(matches!(answer, SharedLookup::Damaged(_)), "{what}: {answer:?}");
        assert!(there.store.find(&key).is_none(), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_cache_is_contacted_once() {
    let missing = tempfile::tempdir().unwrap();
    let shared = SharedCache::open("http://127.0.0.1:9/cache", &BTreeMap::new(), true).unwrap();
    let store = ResultStore::new(missing.path());
    let key = Digest::of("key");
    let first = shared.fetch(&[(Tier::Trusted, key)], &store).await;
    assert!(matches!(first, SharedLookup::Disabled(_)), "{first:?}");
    assert_eq!(shared.fetch(&[(Tier::Trusted, key)], &store).await, SharedLookup::NotFound);
    shared.send(&Tier::Trusted, key, &store);
    let Sent { results, failed, error } = shared.finish_sending().await;
    assert_eq!((results, failed), (0, 1), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_responds_too_slowly_is_disabled() {
    let folder = tempfile::tempdir().unwrap();
    let config = ThrottleConfig { wait_get_per_call: Duration::from_secs(3600), ..ThrottleConfig::default() };
    let shared = SharedCache::of(Arc::new(ThrottledStore::new(InMemory::new(), config)), true);
    let answer = shared.fetch(&[(Tier::Trusted, Digest::of("key"))], &ResultStore::new(folder.path())).await;
    assert_eq!(answer, SharedLookup::Disabled("it is too slow".into()));
}

#[test]
fn errors_say_what_is_wrong_with_an_address() {
    let refused = |address: &str| {
        let BadAddress { address, why, .. } = SharedCache::open(address, &BTreeMap::new(), true).unwrap_err();
        format!("{address}: {why}")
    };
    assert_eq!(refused("cache"), "cache: its path isn't absolute");
    assert_eq!(refused("ftp://host/x"), "ftp://host/x: unknown scheme");
    assert_eq!(refused("s3:///x"), "s3:///x: the bucket is missing");
    assert!(refused("/nowhere/at/all").contains("/nowhere/at/all: "));
    assert!(refused("https://me:secret@host/x").starts_with("https://host/x: it contains a user's name"));
}
