package strictyaml

import (
	"fmt"
	"slices"
	"strings"
)

// OneOf sets dst to text if that is one of the words; what says what they are, for
// the fault. It is the whole of UnmarshalText for a type that is one of a few words.
func OneOf[T ~string](dst *T, text []byte, what string, words ...T) error {
	if *dst = T(text); slices.Contains(words, *dst) {
		return nil
	}
	var b strings.Builder
	for i, w := range words {
		switch {
		case i == 0:
		case i == len(words)-1:
			b.WriteString(" or ")
		default:
			b.WriteString(", ")
		}
		b.WriteString(string(w))
	}
	return fmt.Errorf("%q is no %s; write %s", text, what, b.String())
}
