// Signs what standard input lists, one JSON document: `{credentials, region, requests: [...]}`.
// Writes a JSON list: a URL for each GetObject, PutObject or HeadObject, url and fields for each form.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

// The packages live beside the environments of the other suites, not beside this file.
const require = createRequire(process.argv[2] + "/");
const { S3Client, GetObjectCommand, HeadObjectCommand, PutObjectCommand } = require("@aws-sdk/client-s3");
const { getSignedUrl } = require("@aws-sdk/s3-request-presigner");
const { createPresignedPost } = require("@aws-sdk/s3-presigned-post");

const commands = { GetObject: GetObjectCommand, HeadObject: HeadObjectCommand, PutObject: PutObjectCommand };
const { credentials, region, requests } = JSON.parse(readFileSync(0, "utf8"));
const clients = new Map();

function client(endpoint, forcePathStyle) {
  const name = `${endpoint} ${forcePathStyle}`;
  if (!clients.has(name)) clients.set(name, new S3Client({ endpoint, region, credentials, forcePathStyle }));
  return clients.get(name);
}

const signed = [];
for (const { operation, endpoint, pathStyle, input, expiresIn, ...more } of requests) {
  const s3 = client(endpoint, pathStyle);
  signed.push(
    operation === "PostObject"
      ? await createPresignedPost(s3, { ...input, Expires: expiresIn, ...more })
      : await getSignedUrl(s3, new commands[operation](input), { expiresIn, ...more }),
  );
}
process.stdout.write(JSON.stringify(signed));
