//! The examples that the S3 API reference publishes with their signatures.

use std::time::Duration;

use aws_lc_rs::digest;
use http::HeaderMap;

use crate::signing::sigv4::{AuthorizeSpec, Payload, authorize_headers, explain_presigned};
use crate::signing::{ChunkSigner, Refusal};

use super::{HOST, KEY_ID, Sent, headers, secret, signed_at};

const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const PRESIGNED_SIGNATURE: &str =
    "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";

#[test]
fn the_published_presigned_url_is_made_and_verified() {
    let sent = Sent::presigned("/test.txt", &[], Duration::from_secs(86_400));
    assert_eq!(
        sent.query,
        format!(
            "X-Amz-Algorithm=AWS4-HMAC-SHA256\
             &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
             &X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
             &X-Amz-Signature={PRESIGNED_SIGNATURE}"
        )
    );
    let grant = sent.verify_presigned(signed_at()).unwrap();
    assert_eq!(grant.access_key_id, KEY_ID);
    assert_eq!(grant.expires, signed_at() + Duration::from_secs(86_400));
    assert!(grant.signed_headers.is_empty());
    assert!(matches!(grant.payload, Payload::Unsigned));
}

#[test]
fn the_published_presigned_url_explains_itself_with_the_published_texts() {
    let sent = Sent::presigned("/test.txt", &[], Duration::from_secs(86_400));
    let explanation = explain_presigned(&sent.view()).unwrap();
    assert_eq!(
        explanation.canonical_request,
        "GET\n/test.txt\n\
         X-Amz-Algorithm=AWS4-HMAC-SHA256\
         &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
         &X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\n\
         host:examplebucket.s3.amazonaws.com\n\nhost\nUNSIGNED-PAYLOAD"
    );
    assert_eq!(
        explanation.string_to_sign,
        "AWS4-HMAC-SHA256\n20130524T000000Z\n20130524/us-east-1/s3/aws4_request\n\
         3bfa292879f6447bbcda7001decf97f4a54dc650c8942174ae0a9121cf58ad04"
    );
}

/// A published request: method, raw target, fields besides the date and the payload hash, that
/// hash, and the signature.
struct Example {
    method: &'static str,
    target: &'static str,
    fields: &'static [(&'static str, &'static str)],
    payload: &'static str,
    signature: &'static str,
}

const EXAMPLES: [Example; 4] = [
    Example {
        method: "GET",
        target: "/test.txt",
        fields: &[("range", "bytes=0-9")],
        payload: EMPTY,
        signature: "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    },
    Example {
        method: "PUT",
        target: "/test$file.text",
        fields: &[
            ("date", "Fri, 24 May 2013 00:00:00 GMT"),
            ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ],
        payload: "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
        signature: "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    },
    Example {
        method: "GET",
        target: "/?lifecycle",
        fields: &[],
        payload: EMPTY,
        signature: "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
    },
    Example {
        method: "GET",
        target: "/?max-keys=2&prefix=J",
        fields: &[],
        payload: EMPTY,
        signature: "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
    },
];

#[test]
fn the_published_header_examples_are_made_and_verified() {
    for example in EXAMPLES {
        let mut sent = Sent::new(example.method, example.target, example.fields);
        let spec = AuthorizeSpec {
            method: example.method,
            host: HOST,
            path: &sent.path,
            query: &sent.query,
            headers: &headers(example.fields),
            payload: example.payload,
            access_key_id: KEY_ID,
            region: "us-east-1",
        };
        let added = authorize_headers(&spec, &secret(), signed_at()).unwrap();
        let authorization = added[2].1.to_str().unwrap().to_owned();
        sent.headers.extend(HeaderMap::from_iter(added));

        let (_, signature) = authorization.rsplit_once("Signature=").unwrap();
        assert_eq!(signature, example.signature, "{}", example.target);
        let grant = sent.verify_header(signed_at()).unwrap();
        assert_eq!(grant.access_key_id, KEY_ID);
        let Payload::Sha256(sha256) = grant.payload else {
            panic!("{:?}", grant.payload);
        };
        assert_eq!(hex::encode(sha256), example.payload);
    }
}

/// The published upload of 65 KiB of `a` in chunks of 64 KiB, 1 KiB and nothing.
fn published_upload(payload: &str, more: &[(&str, &str)], seed: &str) -> Sent {
    let mut fields = vec![
        ("content-encoding", "aws-chunked"),
        ("x-amz-content-sha256", payload),
        ("x-amz-date", "20130524T000000Z"),
        ("x-amz-decoded-content-length", "66560"),
        ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
    ];
    fields.extend_from_slice(more);
    let mut names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    names.push("host");
    names.sort_unstable();
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={KEY_ID}/20130524/us-east-1/s3/aws4_request,\
         SignedHeaders={},Signature={seed}",
        names.join(";")
    );
    fields.push(("authorization", &authorization));
    let mut sent = Sent::new("PUT", "/examplebucket/chunkObject.txt", &fields);
    sent.host = "s3.amazonaws.com".to_owned();
    sent
}

fn sha256(length: usize) -> [u8; 32] {
    let bytes = vec![b'a'; length];
    digest::digest(&digest::SHA256, &bytes)
        .as_ref()
        .try_into()
        .unwrap()
}

fn published_chunk_signer() -> ChunkSigner {
    let sent = published_upload(
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        &[("content-length", "66824")],
        "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
    );
    match sent.verify_header(signed_at()).unwrap().payload {
        Payload::StreamingSigned(signer) => signer,
        other => panic!("{other:?}"),
    }
}

const CHUNKS: [(&str, usize); 3] = [
    (
        "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
        65_536,
    ),
    (
        "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
        1_024,
    ),
    (
        "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
        0,
    ),
];

#[test]
fn the_published_chunked_upload_is_verified() {
    let mut signer = published_chunk_signer();
    for (signature, length) in CHUNKS {
        signer.verify_chunk(signature, &sha256(length)).unwrap();
    }
}

#[test]
fn an_altered_dropped_or_reordered_chunk_is_refused() {
    let refused = |chunk| Err(Refusal::ChunkSignatureMismatch { chunk });
    let mut signer = published_chunk_signer();
    assert_eq!(
        signer.verify_chunk(CHUNKS[0].0, &sha256(65_535)),
        refused(0)
    );
    assert_eq!(signer.verify_chunk(CHUNKS[1].0, &sha256(1_024)), refused(0));
    assert_eq!(signer.verify_chunk(CHUNKS[0].0, &sha256(65_536)), Ok(()));
    assert_eq!(signer.verify_chunk(CHUNKS[2].0, &sha256(0)), refused(1));
    assert_eq!(
        signer.verify_chunk("abc", &sha256(0)),
        Err(Refusal::MalformedSignature { length: 3 })
    );
}

#[test]
fn the_published_chunked_upload_with_trailer_is_verified() {
    let sent = published_upload(
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
        &[("x-amz-trailer", "x-amz-checksum-crc32c")],
        "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
    );
    let grant = sent.verify_header(signed_at()).unwrap();
    let Payload::StreamingSignedTrailer(mut signer) = grant.payload else {
        panic!("{:?}", grant.payload);
    };
    for (signature, length) in [
        (
            "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
            65_536,
        ),
        (
            "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
            1_024,
        ),
        (
            "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
            0,
        ),
    ] {
        signer.verify_chunk(signature, &sha256(length)).unwrap();
    }
    let signature = "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435";
    assert_eq!(
        signer
            .clone()
            .verify_trailer(signature, b"x-amz-checksum-crc32c:AAAAAA==\n"),
        Err(Refusal::TrailerSignatureMismatch)
    );
    assert_eq!(
        signer.verify_trailer(signature, b"x-amz-checksum-crc32c:sOO8/Q==\n"),
        Ok(())
    );
}

#[test]
fn an_upload_whose_chunks_are_unsigned_says_so() {
    let fields = [("x-amz-trailer", "x-amz-checksum-crc32")];
    let mut sent = Sent::new("PUT", "/b/k", &fields);
    let spec = AuthorizeSpec {
        method: "PUT",
        host: HOST,
        path: "/b/k",
        query: "",
        headers: &headers(&fields),
        payload: "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        access_key_id: KEY_ID,
        region: "us-east-1",
    };
    let added = authorize_headers(&spec, &secret(), signed_at()).unwrap();
    sent.headers.extend(HeaderMap::from_iter(added));
    let grant = sent.verify_header(signed_at()).unwrap();
    assert!(matches!(grant.payload, Payload::StreamingUnsignedTrailer));
}
