package main

import (
	"fmt"
	"strings"
)

// suggest returns the word that was probably meant, or "".
func suggest(got string, words []string) string {
	got = strings.ToLower(strings.ReplaceAll(got, "_", "-"))
	if len(got) > 64 { // no word of ours: not worth comparing
		return ""
	}
	best, bestDistance := "", min(len(got)/3+1, 3) // a slip for every three letters
	for _, word := range words {
		if word == got {
			return word
		}
		if d := distance(got, word); d <= bestDistance {
			best, bestDistance = word, d-1
		}
	}
	return best
}

// didYouMean is the tail of an error message: the suggestion, else otherwise.
func didYouMean(got string, words []string, prefix, otherwise string) string {
	if word := suggest(got, words); word != "" {
		return fmt.Sprintf(": did you mean %s%s?", prefix, word)
	}
	return otherwise
}

// distance counts the insertions, deletions, replacements and swaps of
// neighbours that make b of a (optimal string alignment).
func distance(a, b string) int {
	two, one := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range one {
		one[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(one[j]+1, row[j-1]+1, one[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], two[j-2]+1)
			}
		}
		two, one = one, row
	}
	return one[len(b)]
}
