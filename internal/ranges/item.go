package ranges

import (
	"errors"
	"path/filepath"
	"strings"
)

// Item is one line of a list in YAML: an entry, the name of a file of entries
// (file:offices.txt), or that of a list that is defined elsewhere (list:partners).
type Item struct {
	Entry
	File string // relative to the file it was written in, until it is resolved
	List string
}

// UnmarshalText reads an item.
func (i *Item) UnmarshalText(text []byte) (err error) {
	if name, ok := strings.CutPrefix(string(text), "file:"); ok {
		if i.File = strings.TrimSpace(name); i.File == "" {
			return errors.New("file: names no file")
		}
		return nil
	}
	if name, ok := strings.CutPrefix(string(text), "list:"); ok {
		if i.List = strings.TrimSpace(name); i.List == "" {
			return errors.New("list: names no list")
		}
		return nil
	}
	i.Entry, err = Parse(string(text))
	return err
}

// Entries are what an item stands for: itself, or what is in its file. That of a
// list is for those to say who know the lists.
func (i Item) Entries() ([]Entry, error) {
	if i.File == "" {
		return []Entry{i.Entry}, nil
	}
	data, err := ReadFile(i.File)
	if err != nil {
		return nil, err
	}
	return ParseFile(i.File, data)
}

// Resolve makes the files that items name relative to dir.
func Resolve(items []Item, dir string) {
	for i := range items {
		if f := items[i].File; f != "" && !filepath.IsAbs(f) {
			items[i].File = filepath.Join(dir, f)
		}
	}
}

// Files are the files that items name.
func Files(items []Item) (files []string) {
	for _, i := range items {
		if i.File != "" {
			files = append(files, i.File)
		}
	}
	return files
}
