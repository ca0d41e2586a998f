// Works with a store as an application would. Reads `{endpoint, region, credentials, bucket, checksums}` from standard
// input; every bucket it makes begins with `bucket`. Writes a JSON object: for each step null, or what went wrong.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { Readable } from "node:stream";

// The packages live beside the environments of the other suites, not beside this file.
const require = createRequire(process.argv[2] + "/");
const sdk = require("@aws-sdk/client-s3");
const { Upload } = require("@aws-sdk/lib-storage");
const { getSignedUrl } = require("@aws-sdk/s3-request-presigner");

const { endpoint, region, credentials, bucket: stem, checksums } = JSON.parse(readFileSync(0, "utf8"));
const s3 = new sdk.S3Client({ endpoint, region, credentials, forcePathStyle: true, maxAttempts: 1, ...checksums });
const MIB = 1024 * 1024;
const ALGORITHMS = ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"];

const send = (command, input) => s3.send(new sdk[`${command}Command`](input));
const bytesOf = async (answer) => Buffer.from(await answer.Body.transformToByteArray());
const etagOf = (bytes) => `"${createHash("md5").update(bytes).digest("hex")}"`;

async function refusal(command, input) {
  try {
    await send(command, input);
  } catch (error) {
    return [error.$metadata?.httpStatusCode, error.name];
  }
  throw new Error(`${command} was not refused`);
}

// A stream of a length that nobody knows: the SDK sends it in chunks with a checksum behind them.
function streamOf(bytes) {
  return Readable.from(
    (function* () {
      for (let at = 0; at < bytes.length; at += 65536) yield bytes.subarray(at, at + 65536);
    })(),
  );
}

const steps = {
  async buckets(bucket) {
    assert.ok((await send("ListBuckets", {})).Buckets.some((found) => found.Name === bucket));
    assert.equal((await send("HeadBucket", { Bucket: bucket })).BucketRegion, region);
    assert.equal((await send("GetBucketLocation", { Bucket: bucket })).LocationConstraint, undefined);
    const other = { Bucket: bucket, ACL: "public-read" };
    assert.deepEqual(await refusal("CreateBucket", other), [409, "BucketAlreadyOwnedByYou"]);
    await send("DeleteBucket", { Bucket: bucket });
    await sdk.waitUntilBucketNotExists({ client: s3, maxWaitTime: 20, minDelay: 1 }, { Bucket: bucket });
    assert.deepEqual(await refusal("DeleteBucket", { Bucket: bucket }), [404, "NoSuchBucket"]);
  },

  async objects(bucket) {
    for (const size of [0, 1, 70000, 3 * MIB + 7]) {
      const bytes = randomBytes(size);
      const Key = "films/ü + %41.mp4";
      const target = { Bucket: bucket, Key };
      const put = await send("PutObject", { ...target, Body: bytes, ContentType: "video/mp4", Metadata: { a: "b" } });
      assert.equal(put.ETag, etagOf(bytes));
      const got = await send("GetObject", target);
      assert.ok((await bytesOf(got)).equals(bytes));
      assert.deepEqual([got.ContentType, got.Metadata], ["video/mp4", { a: "b" }]);
      const head = await send("HeadObject", target);
      assert.deepEqual([head.ContentLength, head.ETag], [size, put.ETag]);
      if (size > 1) {
        const part = await send("GetObject", { ...target, Range: "bytes=1-10" });
        assert.ok((await bytesOf(part)).equals(bytes.subarray(1, 11)));
      }
    }
    await send("DeleteObject", { Bucket: bucket, Key: "films/ü + %41.mp4" });
    const gone = await refusal("GetObject", { Bucket: bucket, Key: "films/ü + %41.mp4" });
    assert.deepEqual(gone, [404, "NoSuchKey"]);
  },

  async streams(bucket) {
    for (const size of [0, 10, 70000, 3 * MIB + 7]) {
      const bytes = randomBytes(size);
      for (const ChecksumAlgorithm of [undefined, "CRC32", "CRC32C", "SHA1", "SHA256"]) {
        await send("PutObject", { Bucket: bucket, Key: "a", Body: streamOf(bytes), ContentLength: size, ChecksumAlgorithm });
        const got = await send("GetObject", { Bucket: bucket, Key: "a", ChecksumMode: "ENABLED" });
        assert.ok((await bytesOf(got)).equals(bytes), `${size} ${ChecksumAlgorithm}`);
        if (ChecksumAlgorithm) assert.ok(got[`Checksum${ChecksumAlgorithm}`]);
      }
    }
  },

  async uploads(bucket) {
    for (const size of [0, 100, 5 * MIB, 12 * MIB + 1]) {
      const bytes = randomBytes(size);
      for (const Body of [bytes, streamOf(bytes)]) {
        const upload = new Upload({
          client: s3,
          params: { Bucket: bucket, Key: "ü/big", Body, ContentType: "video/mp4" },
          partSize: 5 * MIB,
          queueSize: 3,
        });
        const done = await upload.done();
        assert.ok(done.ETag);
        const got = await send("GetObject", { Bucket: bucket, Key: "ü/big" });
        assert.ok((await bytesOf(got)).equals(bytes), `${size}`);
      }
    }
    const upload = new Upload({ client: s3, params: { Bucket: bucket, Key: "aborted", Body: randomBytes(11 * MIB) } });
    const finished = upload.done().then(() => "done", () => "aborted");
    await upload.abort();
    assert.equal(await finished, "aborted");
    assert.deepEqual(await refusal("HeadObject", { Bucket: bucket, Key: "aborted" }), [404, "NotFound"]);
  },

  async parts(bucket) {
    const target = { Bucket: bucket, Key: "a" };
    const bytes = randomBytes(5 * MIB);
    await send("PutObject", { Bucket: bucket, Key: "source", Body: bytes });
    for (const ChecksumAlgorithm of ALGORITHMS.filter((name) => name !== "CRC64NVME")) {
      const { UploadId } = await send("CreateMultipartUpload", { ...target, ChecksumAlgorithm });
      const part = { ...target, UploadId };
      const first = await send("UploadPart", { ...part, PartNumber: 1, Body: bytes, ChecksumAlgorithm });
      const copy = await send("UploadPartCopy", {
        ...part,
        PartNumber: 2,
        CopySource: `${bucket}/source`,
        CopySourceRange: "bytes=10-19",
      });
      const listed = await send("ListParts", part);
      assert.deepEqual(listed.Parts.map((found) => found.Size), [5 * MIB, 10]);
      const name = `Checksum${ChecksumAlgorithm}`;
      const Parts = [first, copy.CopyPartResult].map((done, at) => ({
        PartNumber: at + 1,
        ETag: done.ETag,
        [name]: done[name],
      }));
      await send("CompleteMultipartUpload", { ...part, MultipartUpload: { Parts } });
      const got = await send("GetObject", target);
      assert.ok((await bytesOf(got)).equals(Buffer.concat([bytes, bytes.subarray(10, 20)])));
      const second = await send("GetObject", { ...target, PartNumber: 2 });
      assert.deepEqual([second.PartsCount, (await bytesOf(second)).length], [2, 10]);
    }
    const { UploadId } = await send("CreateMultipartUpload", target);
    assert.equal((await send("ListMultipartUploads", { Bucket: bucket })).Uploads[0].UploadId, UploadId);
    await send("AbortMultipartUpload", { ...target, UploadId });
    assert.deepEqual(await refusal("ListParts", { ...target, UploadId }), [404, "NoSuchUpload"]);
  },

  async listings(bucket) {
    const keys = ["a b", "a+b", "dir/1", "dir/2", "z<&>", "ü/%41"];
    for (const Key of keys) await send("PutObject", { Bucket: bucket, Key, Body: Key });
    for (const pageSize of [1, 2, 10]) {
      const found = [];
      for await (const page of sdk.paginateListObjectsV2({ client: s3, pageSize }, { Bucket: bucket }))
        found.push(...(page.Contents ?? []).map((entry) => entry.Key));
      assert.deepEqual(found, keys);
    }
    const encoded = await send("ListObjectsV2", { Bucket: bucket, EncodingType: "url" });
    assert.deepEqual(encoded.Contents.map((entry) => decodeURIComponent(entry.Key.replaceAll("+", "%20"))), keys);
    const grouped = await send("ListObjects", { Bucket: bucket, Delimiter: "/" });
    assert.deepEqual(grouped.CommonPrefixes.map((entry) => entry.Prefix), ["dir/", "ü/"]);
    const versions = await send("ListObjectVersions", { Bucket: bucket });
    assert.deepEqual(versions.Versions.map((entry) => entry.Key), keys);
    const Objects = [...keys, "none"].map((Key) => ({ Key }));
    const deleted = await send("DeleteObjects", { Bucket: bucket, Delete: { Objects } });
    assert.deepEqual([deleted.Deleted.length, deleted.Errors], [keys.length + 1, undefined]);
    assert.equal((await send("ListObjectsV2", { Bucket: bucket })).KeyCount, 0);
  },

  async versions(bucket) {
    await send("PutBucketVersioning", { Bucket: bucket, VersioningConfiguration: { Status: "Enabled" } });
    assert.equal((await send("GetBucketVersioning", { Bucket: bucket })).Status, "Enabled");
    const target = { Bucket: bucket, Key: "a" };
    const first = (await send("PutObject", { ...target, Body: "first" })).VersionId;
    await send("PutObject", { ...target, Body: "second" });
    const marker = await send("DeleteObject", target);
    assert.equal(marker.DeleteMarker, true);
    assert.equal((await bytesOf(await send("GetObject", { ...target, VersionId: first }))).toString(), "first");
    assert.deepEqual(await refusal("GetObject", target), [404, "NoSuchKey"]);
    assert.deepEqual(await refusal("GetObject", { ...target, VersionId: marker.VersionId }), [405, "MethodNotAllowed"]);
    const listed = await send("ListObjectVersions", { Bucket: bucket });
    assert.deepEqual([listed.Versions.length, listed.DeleteMarkers.length], [2, 1]);
  },

  async conditions(bucket) {
    const target = { Bucket: bucket, Key: "a" };
    const { ETag } = await send("PutObject", { ...target, Body: "x", IfNoneMatch: "*" });
    const failed = [412, "PreconditionFailed"];
    assert.deepEqual(await refusal("PutObject", { ...target, Body: "y", IfNoneMatch: "*" }), failed);
    assert.deepEqual(await refusal("GetObject", { ...target, IfMatch: '"other"' }), failed);
    assert.equal((await refusal("GetObject", { ...target, IfNoneMatch: ETag }))[0], 304);
    await send("PutObject", { ...target, Body: "z", IfMatch: ETag });
    assert.deepEqual(await refusal("DeleteObject", { ...target, IfMatch: ETag }), failed);
  },

  async copies(bucket) {
    await send("PutObject", { Bucket: bucket, Key: "ü +", Body: "x", Metadata: { a: "b" } });
    const CopySource = encodeURI(`${bucket}/ü +`).replaceAll("+", "%2B");
    await send("CopyObject", { Bucket: bucket, Key: "copy", CopySource });
    assert.deepEqual((await send("HeadObject", { Bucket: bucket, Key: "copy" })).Metadata, { a: "b" });
    const replaced = { MetadataDirective: "REPLACE", Metadata: { c: "d" } };
    await send("CopyObject", { Bucket: bucket, Key: "copy", CopySource: `${bucket}/copy`, ...replaced });
    assert.deepEqual((await send("HeadObject", { Bucket: bucket, Key: "copy" })).Metadata, { c: "d" });
  },

  async settings(bucket) {
    const Bucket = bucket;
    const TagSet = [{ Key: "a", Value: "ü" }];
    await send("PutBucketTagging", { Bucket, Tagging: { TagSet } });
    assert.deepEqual((await send("GetBucketTagging", { Bucket })).TagSet, TagSet);
    await send("DeleteBucketTagging", { Bucket });
    assert.deepEqual(await refusal("GetBucketTagging", { Bucket }), [404, "NoSuchTagSet"]);
    const CORSRules = [{ AllowedOrigins: ["*"], AllowedMethods: ["GET"], MaxAgeSeconds: 5 }];
    await send("PutBucketCors", { Bucket, CORSConfiguration: { CORSRules } });
    assert.deepEqual((await send("GetBucketCors", { Bucket })).CORSRules, CORSRules);
    await send("DeleteBucketCors", { Bucket });
    const Rules = [{ ID: "a", Status: "Enabled", Filter: { Prefix: "x/" }, Expiration: { Days: 1 } }];
    await send("PutBucketLifecycleConfiguration", { Bucket, LifecycleConfiguration: { Rules } });
    assert.deepEqual((await send("GetBucketLifecycleConfiguration", { Bucket })).Rules, Rules);
    await send("DeleteBucketLifecycle", { Bucket });
    const Statement = [{ Effect: "Allow", Principal: "*", Action: "s3:GetObject", Resource: `arn:aws:s3:::${bucket}/*` }];
    const Policy = JSON.stringify({ Version: "2012-10-17", Statement });
    await send("PutBucketPolicy", { Bucket, Policy });
    assert.equal((await send("GetBucketPolicy", { Bucket })).Policy, Policy);
    assert.equal((await send("GetBucketPolicyStatus", { Bucket })).PolicyStatus.IsPublic, true);
    await send("DeleteBucketPolicy", { Bucket });
    await send("PutBucketAcl", { Bucket, ACL: "private" });
    assert.equal((await send("GetBucketAcl", { Bucket })).Grants.length, 1);
    const PublicAccessBlockConfiguration = { BlockPublicAcls: true, IgnorePublicAcls: true };
    await send("PutPublicAccessBlock", { Bucket, PublicAccessBlockConfiguration });
    const block = (await send("GetPublicAccessBlock", { Bucket })).PublicAccessBlockConfiguration;
    assert.deepEqual([block.BlockPublicAcls, block.BlockPublicPolicy], [true, false]);
    await send("DeletePublicAccessBlock", { Bucket });
  },

  async tags(bucket) {
    const target = { Bucket: bucket, Key: "a" };
    await send("PutObject", { ...target, Body: "x", Tagging: "a=1&b=%C3%BC" });
    const TagSet = [{ Key: "a", Value: "1" }, { Key: "b", Value: "ü" }];
    assert.deepEqual((await send("GetObjectTagging", target)).TagSet, TagSet);
    await send("PutObjectTagging", { ...target, Tagging: { TagSet: [{ Key: "c", Value: "" }] } });
    assert.equal((await send("HeadObject", target)).TagCount ?? 1, 1);
    await send("DeleteObjectTagging", target);
    assert.deepEqual((await send("GetObjectTagging", target)).TagSet, []);
    await send("PutObjectAcl", { ...target, ACL: "public-read" });
    assert.equal((await send("GetObjectAcl", target)).Grants.length, 2);
    const asked = { ...target, ObjectAttributes: ["ObjectSize", "ETag"] };
    assert.equal((await send("GetObjectAttributes", asked)).ObjectSize, 1);
  },

  async urls(bucket) {
    const target = { Bucket: bucket, Key: "ü +" };
    const put = await getSignedUrl(s3, new sdk.PutObjectCommand({ ...target, ContentType: "text/x" }));
    // Its URL may promise the checksum of no bytes.
    const Body = put.includes("x-amz-checksum-crc32=AAAAAA") ? "" : "by url";
    assert.equal((await fetch(put, { method: "PUT", body: Body, headers: { "Content-Type": "text/x" } })).status, 200);
    const get = await getSignedUrl(s3, new sdk.GetObjectCommand({ ...target, ResponseContentType: "text/y" }));
    const got = await fetch(get);
    assert.deepEqual([await got.text(), got.headers.get("content-type")], [Body, "text/y"]);
    const gone = await getSignedUrl(s3, new sdk.DeleteObjectCommand(target));
    assert.equal((await fetch(gone, { method: "DELETE" })).status, 204);
  },
};

const outcomes = {};
for (const [name, step] of Object.entries(steps)) {
  const bucket = `${stem}-${name}`;
  try {
    await send("CreateBucket", { Bucket: bucket });
    await step(bucket);
    outcomes[name] = null;
  } catch (error) {
    outcomes[name] = `${error.stack ?? error}`;
  }
}
process.stdout.write(JSON.stringify(outcomes));
