//! The part of the API of S3 that plugins use, for one bucket, whose name is a part of the path.

use stagewright_sdk::http::Request;
use stagewright_sdk::{Error, Result};

use crate::{Answered, Service, encoded, encoded_path, texts};

/// How many requests are sent at a time.
const AT_ONCE: usize = 16;

/// The most bytes of an object that is read: a list of files or a pointer.
const OBJECT: usize = 64 << 20;

/// A bucket.
#[derive(Clone, Debug)]
pub struct Bucket {
    service: Service,
    name: String,
}

/// When an object may be written. S3, MinIO and SeaweedFS check it together with the write.
#[derive(Clone, Debug)]
pub enum Condition {
    /// Always.
    None,
    /// It doesn't exist.
    New,
    /// It has this ETag.
    Unchanged(String),
}

/// What an object is served with.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a> {
    /// The media type.
    pub content_type: &'a str,
    /// `Cache-Control`.
    pub cache_control: &'a str,
}

/// A file of the workspace on its way to a key.
#[derive(Clone, Debug)]
pub struct Upload<'a> {
    /// The file's path.
    pub path: String,
    /// The key.
    pub to: String,
    /// What the object is served with.
    pub headers: Headers<'a>,
}

/// A copy within the bucket.
#[derive(Clone, Debug)]
pub struct Copy<'a> {
    /// The key that is copied.
    pub from: String,
    /// The key of the copy.
    pub to: String,
    /// What the copy is served with.
    pub headers: Headers<'a>,
}

/// An object as a listing has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The object's key.
    pub key: String,
    /// As in `2026-01-31T12:00:00.000Z`, so that text sorts by time.
    pub modified: String,
}

impl Bucket {
    /// The bucket of this name at a service.
    pub fn new(service: Service, name: &str) -> Bucket {
        Bucket { service, name: name.to_owned() }
    }

    /// An object of at most 64 MiB with its ETag; none if it doesn't exist.
    ///
    /// # Errors
    /// Refusals, and failures of the connection.
    pub fn get(&self, key: &str) -> Result<Option<(Vec<u8>, String)>> {
        match self.service.send("GetObject", self.request("GET", key)) {
            Ok(mut response) => {
                let etag = response.header("etag").unwrap_or_default();
                Ok(Some((response.bytes(OBJECT)?, etag)))
            }
            Err(failure) if failure.is("NoSuchKey") => Ok(None),
            Err(failure) if failure.is("NoSuchBucket") => {
                Err(Error::from(failure)
                    .help("create the bucket first, and check the region in the credential's origin"))
            }
            Err(failure) => Err(failure.into()),
        }
    }

    /// Writes a document in JSON, of which caches keep no copy. Returns its ETag.
    ///
    /// # Errors
    /// As [`Bucket::get`], and if the condition isn't met.
    pub fn put(&self, key: &str, body: &[u8], condition: &Condition) -> Answered<String> {
        let mut request = self.request("PUT", key);
        request.header("content-type", "application/json").header("cache-control", "no-cache").body(body);
        match condition {
            Condition::None => &mut request,
            Condition::New => request.header("if-none-match", "*"),
            Condition::Unchanged(etag) => request.header("if-match", etag),
        };
        let response = self.service.send("PutObject", request)?;
        Ok(response.header("etag").unwrap_or_default())
    }

    /// Writes an object's content to a file of the workspace. Returns its size; none if the object doesn't exist.
    ///
    /// # Errors
    /// As [`Bucket::get`], and when the file can't be written.
    pub fn download(&self, key: &str, path: &str) -> Result<Option<u64>> {
        match self.service.send("GetObject", self.request("GET", key)) {
            Ok(mut response) => response.save(path).map(Some),
            Err(failure) if failure.is("NoSuchKey") => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Writes files of the workspace, each of at most 5 GiB.
    ///
    /// # Errors
    /// As [`Bucket::get`], and when a file can't be read.
    pub fn upload(&self, uploads: &[Upload<'_>]) -> Result<()> {
        self.service.send_each("PutObject", uploads.len(), AT_ONCE, |index| {
            let Upload { path, to, headers } = &uploads[index];
            let mut request = self.with_headers("PUT", to, *headers);
            request.body_file(path);
            request
        })
    }

    /// Copies objects within the bucket.
    ///
    /// # Errors
    /// As [`Bucket::get`].
    pub fn copy(&self, copies: &[Copy<'_>]) -> Result<()> {
        self.service.send_each("CopyObject", copies.len(), AT_ONCE, |index| {
            let Copy { from, to, headers } = &copies[index];
            let mut request = self.with_headers("PUT", to, *headers);
            request
                .header("x-amz-copy-source", &format!("/{}/{}", self.name, encoded_path(from)))
                .header("x-amz-metadata-directive", "REPLACE");
            request
        })
    }

    /// Deletes objects, of which some may not exist.
    ///
    /// # Errors
    /// As [`Bucket::get`].
    pub fn delete(&self, keys: &[String]) -> Result<()> {
        self.service.send_each("DeleteObject", keys.len(), AT_ONCE, |index| self.request("DELETE", &keys[index]))
    }

    /// The objects of a folder, whose key ends with a slash, without those of folders in it.
    ///
    /// # Errors
    /// As [`Bucket::get`].
    pub fn list(&self, folder: &str) -> Result<Vec<Listed>> {
        let (mut found, mut token) = (Vec::new(), None);
        loop {
            let from =
                token.map(|token: String| format!("&continuation-token={}", encoded(&token))).unwrap_or_default();
            let path = format!("/{}?delimiter=%2F&list-type=2&prefix={}{from}", self.name, encoded(folder));
            let page = self.service.send("ListObjectsV2", self.service.request("GET", &path))?.text()?;
            let all = |path: &[&str]| texts(&page, &[&["ListBucketResult"], path].concat());
            let keys = all(&["Contents", "Key"])?.into_iter().zip(all(&["Contents", "LastModified"])?);
            found.extend(keys.map(|(key, modified)| Listed { key, modified }));
            token = all(&["NextContinuationToken"])?.into_iter().find(|token| !token.is_empty());
            if token.is_none() {
                return Ok(found);
            }
        }
    }

    fn request(&self, method: &str, key: &str) -> Request {
        self.service.request(method, &format!("/{}/{}", self.name, encoded_path(key)))
    }

    fn with_headers(&self, method: &str, key: &str, headers: Headers<'_>) -> Request {
        let mut request = self.request(method, key);
        request.header("content-type", headers.content_type).header("cache-control", headers.cache_control);
        request
    }
}
