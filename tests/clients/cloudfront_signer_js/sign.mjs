// Reads {"urls", "policies", "keyPairId", "dateLessThan", "privateKey"} from standard input and writes the signed URLs,
// canned and custom, and the cookies of each policy as JSON. Run with the folder of node_modules as its argument.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const { getSignedUrl, getSignedCookies } = createRequire(`${process.argv[2]}/`)("@aws-sdk/cloudfront-signer");
const { urls, policies, ...key } = JSON.parse(readFileSync(0, "utf8"));
const { dateLessThan, ...pair } = key;
const canned = urls.map((url) => getSignedUrl({ url, ...key }));
const custom = urls.map((url, at) => getSignedUrl({ url, ...pair, policy: policies[at] }));
const cookies = policies.map((policy) => getSignedCookies({ policy, ...pair }));
process.stdout.write(JSON.stringify({ canned, custom, cookies }));
