package catalog

import "fmt"

// PutIntent stores an intent. With Seq 0 it gets the next number, also in t.
func (tx *Tx) PutIntent(t *Intent) error {
	if t.Seq == 0 {
		seq, err := tx.c.seqs.take()
		if err != nil {
			return err
		}
		t.Seq = seq
		return tx.setNew(numberKey(kindIntent, t.Seq), encodeIntent(t))
	}
	return tx.set(numberKey(kindIntent, t.Seq), encodeIntent(t))
}

// DeleteIntent removes an intent; one that does not exist is no error.
func (tx *Tx) DeleteIntent(seq uint64) error { return tx.delete(numberKey(kindIntent, seq)) }

// EachIntent calls fn for all intents in the order of their numbers until fn returns false.
func (tx *Tx) EachIntent(fn func(*Intent) bool) error {
	return tx.scan([]byte{kindIntent}, nil, func(key, val []byte) (bool, error) {
		seq, err := keyNumber(key, 1)
		if err != nil {
			return false, err
		}
		t, err := decodeIntent(seq, val)
		if err != nil {
			return false, fmt.Errorf("intent %d: %w", seq, err)
		}
		return fn(t), nil
	})
}
