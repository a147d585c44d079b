package catalog

import "fmt"

// QueueItem returns the queue's item of ino, or ErrNotFound.
func (tx *Tx) QueueItem(ino Ino) (*QueueItem, error) {
	v, err := tx.get(numberKey(kindQueue, uint64(ino)))
	if err != nil {
		return nil, err
	}
	return decodeQueueItem(ino, v)
}

// PutQueue stores an item under its inode.
func (tx *Tx) PutQueue(q *QueueItem) error {
	return tx.set(numberKey(kindQueue, uint64(q.Ino)), encodeQueueItem(q))
}

// DeleteQueue removes an item; one that does not exist is no error.
func (tx *Tx) DeleteQueue(ino Ino) error { return tx.delete(numberKey(kindQueue, uint64(ino))) }

// EachQueue calls fn for all items in the order of inodes until fn returns false.
func (tx *Tx) EachQueue(fn func(*QueueItem) bool) error {
	return tx.scan([]byte{kindQueue}, nil, func(key, val []byte) (bool, error) {
		ino, err := keyNumber(key, 1)
		if err != nil {
			return false, err
		}
		q, err := decodeQueueItem(Ino(ino), val)
		if err != nil {
			return false, fmt.Errorf("queue item %d: %w", ino, err)
		}
		return fn(q), nil
	})
}
