package s3test

import (
	"fmt"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// WithWebhook is MinIO with a target for event notifications: an address over HTTP, and the
// token that is sent there ("": none).
func (k Kind) WithWebhook(target, url, token string) Kind {
	own := k.env
	k.env = func(accessKey, secretKey string) []string {
		return append(own(accessKey, secretKey), "MINIO_NOTIFY_WEBHOOK_ENABLE_"+target+"=on",
			"MINIO_NOTIFY_WEBHOOK_ENDPOINT_"+target+"="+url, "MINIO_NOTIFY_WEBHOOK_AUTH_TOKEN_"+target+"="+token)
	}
	return k
}

// Notify has MinIO tell targets of every object that is made below a prefix.
func (b *Bucket) Notify(t testing.TB, prefix string, targets ...string) {
	t.Helper()
	var queues []types.QueueConfiguration
	for _, target := range targets {
		queues = append(queues, types.QueueConfiguration{
			QueueArn: aws.String(fmt.Sprintf("arn:minio:sqs::%s:webhook", target)), Events: []types.Event{"s3:ObjectCreated:*"},
			Filter: &types.NotificationConfigurationFilter{Key: &types.S3KeyFilter{FilterRules: []types.FilterRule{
				{Name: types.FilterRuleNamePrefix, Value: &prefix}}}},
		})
	}
	if _, err := b.client.PutBucketNotificationConfiguration(t.Context(), &s3.PutBucketNotificationConfigurationInput{
		Bucket: &b.Name, NotificationConfiguration: &types.NotificationConfiguration{QueueConfigurations: queues}}); err != nil {
		t.Fatalf("set the notifications of %s: %v", b.Name, err)
	}
}
