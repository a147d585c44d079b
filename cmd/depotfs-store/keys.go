package main

import (
	"crypto/rand"
	"errors"
)

// keyPair is what requests must be signed with.
type keyPair struct{ access, secret string }

// keysFromEnv reads the pair from the environment or, when neither half is
// there, makes one (made = true).
func keysFromEnv(getenv func(string) string) (keys keyPair, made bool, err error) {
	keys = keyPair{access: getenv("AWS_ACCESS_KEY_ID"), secret: getenv("AWS_SECRET_ACCESS_KEY")}
	switch {
	case keys.access != "" && keys.secret != "":
		return keys, false, nil
	case keys.access != "":
		return keyPair{}, false, errors.New("AWS_ACCESS_KEY_ID is set but AWS_SECRET_ACCESS_KEY is not: set both or neither")
	case keys.secret != "":
		return keyPair{}, false, errors.New("AWS_SECRET_ACCESS_KEY is set but AWS_ACCESS_KEY_ID is not: set both or neither")
	}
	// rand.Text is 26 letters and digits with 130 bits of entropy.
	return keyPair{access: "DEPOT" + rand.Text()[:15], secret: rand.Text() + rand.Text()[:14]}, true, nil
}
