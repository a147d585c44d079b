package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// maxSecret bounds what is read as one key; session tokens have some thousand bytes.
const maxSecret = 64 << 10

// readSecrets puts the keys that are in files (@FILE) or come from standard input (-, one
// a line) into KEY=VALUE words. The words have been parsed.
func (s *system) readSecrets(words []string) ([]string, error) {
	var input *bufio.Reader
	out := make([]string, 0, len(words))
	for _, word := range words {
		key, text, _ := strings.Cut(word, "=")
		o := optionCalled(key)
		if !o.isSecret() || text == "" {
			out = append(out, word)
			continue
		}
		var err error
		switch file, isFile := strings.CutPrefix(text, "@"); {
		case isFile:
			text, err = secretOfFile(file)
		case text == "-":
			if input == nil {
				input = bufio.NewReader(io.LimitReader(s.in, maxSecret))
			}
			text, err = input.ReadString('\n')
			if errors.Is(err, io.EOF) && text != "" {
				err = nil
			}
			if err != nil {
				err = usagef("%s: standard input has no line for it", key)
			}
		case o.name != "access-key":
			fmt.Fprintf(s.err, "depotfs: %s is in the shell's history and was in the process list: next time say %s=- or %s=@FILE\n", key, key, key)
		}
		if err != nil {
			return nil, err
		}
		text = strings.TrimRight(text, "\r\n")
		if text == "" {
			return nil, usagef("%s: what was read is empty; to give it up, say %s= alone", key, key)
		}
		out = append(out, key+"="+text)
	}
	return out, nil
}

// secretOfFile reads a file that has one key.
func secretOfFile(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", usagef("%v", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	switch {
	case err != nil:
		return "", err
	case len(text) > maxSecret:
		return "", usagef("%s is larger than %s: name a file that has the key alone", name, exactSize(maxSecret))
	}
	return strings.TrimSpace(string(text)), nil
}
