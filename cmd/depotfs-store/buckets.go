package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/backend"
	"github.com/versity/versitygw/s3api/utils"
	"github.com/versity/versitygw/s3err"
)

// makingBuckets is a backend in which every bucket exists once a signed request
// has named it.
//
// The gateway asks for the bucket's ACL at the start of every request on a
// bucket or object, after it has verified the signature and the name, and
// before anything else that needs the bucket. So that one question is where a
// missing bucket is made. CreateBucket itself does not ask.
type makingBuckets struct {
	backend.Backend
	mu sync.Mutex // one maker at a time: others find the bucket finished
}

// GetBucketAcl answers the ACL of the bucket, which it creates when it is
// missing and the request is signed.
func (b *makingBuckets) GetBucketAcl(ctx context.Context, in *s3.GetBucketAclInput) ([]byte, error) {
	acl, err := b.Backend.GetBucketAcl(ctx, in)
	if !errors.Is(err, s3err.GetAPIError(s3err.ErrNoSuchBucket)) {
		return acl, err
	}
	// Set by the signature check; anonymous requests carry an empty account.
	account, _ := ctx.Value(string(utils.ContextKeyAccount)).(auth.Account)
	if account.Access == "" {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	acl, err = b.Backend.GetBucketAcl(ctx, in)
	if !errors.Is(err, s3err.GetAPIError(s3err.ErrNoSuchBucket)) {
		return acl, err
	}
	acl, err = json.Marshal(auth.ACL{Owner: account.Access})
	if err != nil {
		return nil, fmt.Errorf("encode the ACL of bucket %s: %w", *in.Bucket, err)
	}
	err = b.CreateBucket(ctx, &s3.CreateBucketInput{
		Bucket:                    in.Bucket,
		CreateBucketConfiguration: &types.CreateBucketConfiguration{}, // the posix backend wants one
		ObjectOwnership:           types.ObjectOwnershipBucketOwnerEnforced,
	}, acl)
	if err != nil {
		return nil, fmt.Errorf("create bucket %s: %w", *in.Bucket, err)
	}
	return acl, nil
}
