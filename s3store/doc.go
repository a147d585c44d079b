// Package s3store is the door to the cloud: it implements cache.Store over the
// S3 protocol with the AWS SDK, which no other package knows.
//
// # How a request goes
//
// A method of Store puts a call into the context and asks the SDK's client,
// which signs, retries (MaxErrorRetry times, exponential with full jitter) and
// parses. Underneath lies our own transport: pooled HTTP/1.1 connections, each
// of which is cut when no byte moves for SocketTimeout; it counts requests by
// the call's kind, and counts and limits the bytes of objects. What comes back as
// an error goes through one function, Store.fail, which gives it exactly one of
// the meanings of package cache and a text for a person; the SDK's own error
// goes no further, and no secret is in the text.
//
// # Checksums
//
// The caller computes CRC-64/NVME of what it means to store; the store verifies
// it on PUT, on every part and on the whole object at the completion. The SDK's
// own checksums are switched off. A store that does not know CRC-64/NVME gets
// Content-MD5, and the announced CRC is compared here when the MD5 is computed.
// Over TLS the payload is not signed, over plain HTTP it is, by SHA-256; the body
// is read twice then, never held in memory.
//
// # Stores differ
//
// Before Probe the store is taken for a good one, except that conditional
// deletes and copies are not relied on. Probe tries; what a store cannot do is
// then done here by check and write, which leaves a gap for a race: a HEAD before
// an unconditional PUT, Complete or DELETE. A copy whose target is guarded is, where
// the store guards no copies, a GET and a guarded PUT when it is small, else a
// copy in parts with a guarded completion.
//
// versitygw and MinIO cannot add up the checksums of copied parts. An upload that
// is to hold copied parts is "plain" there: its parts are verified by MD5 and the
// whole is not; MinIO then keeps no checksum of it either.
//
// # A HEAD that is refused
//
// The answer to a HEAD has no body and so no reason: 404 may be said of the
// object, of the bucket, or by versitygw of an unknown access key. The reason is
// asked for by a GET of one byte.
//
// # An answer that was lost
//
// When a guarded write was retried inside and the retry finds the condition
// broken, the first attempt may have won. The method looks: the same size and
// checksum means that it has. Two writers of the same bytes can both be told
// so; who needs to know which one it was puts a nonce into the bytes. A retry by
// the caller is the caller's business.
package s3store
