package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"

	"edge/config"
	"edge/proxy"
	"edge/rules"
	edgetls "edge/tls"
)

// reloader is the only way in which policy changes. Whoever wants a reload asks
// for one with ask; all requests end in one goroutine, which coalesces them.
//
// A load that fails changes nothing, and is not tried again until a file has
// changed. A load that succeeds replaces what the operator wrote, whole, in one
// step; what the world did (buckets, connections, records) is not touched.
type reloader struct {
	path   string
	shared *shared
	certs  *edgetls.Manager
	edge   *proxy.Server
	board  *board
	logger *zap.Logger

	current *loaded
	seen    [sha256.Size]byte // content of everything the last load read, whether it succeeded or not
	failed  bool              // that load
	named   []string          // the files that the configuration last read names, whether it is used or not
	asked   chan struct{}
}

// quiet is how long files have to be left alone before they are read. Editors
// and deployments write in several steps.
const quiet = 150 * time.Millisecond

// newReloader returns a reloader for what first was loaded from. seen is the
// content of the files before that, so that a change in the meantime is noticed.
func newReloader(path string, shared *shared, first *loaded, seen [sha256.Size]byte, edge *proxy.Server, board *board, logger *zap.Logger) *reloader {
	board.load(first, shared.engines.Sizes())
	return &reloader{
		path: path, shared: shared, certs: first.certs, edge: edge, board: board, logger: logger,
		current: first, seen: seen, asked: make(chan struct{}, 1),
	}
}

// ask asks for a reload. It never waits: one that is already due will see what
// this one is about.
func (r *reloader) ask() {
	select {
	case r.asked <- struct{}{}:
	default:
	}
}

// run serves requests for reloads, and watches the files for changes, until ctx
// ends. Where files cannot be watched it says so; ask works all the same.
func (r *reloader) run(ctx context.Context) {
	watch, err := fsnotify.NewWatcher()
	if err != nil {
		r.logger.Warn("files are not watched; send SIGHUP to reload", zap.Error(err))
		watch = &fsnotify.Watcher{} // which never has anything to say
	} else {
		defer watch.Close() //nolint:errcheck // the process no longer cares
		r.watchAll(watch)
	}
	due := time.After(quiet) // for what happened between the first load and the watch
	for {
		select {
		case <-ctx.Done():
			return
		case <-watch.Events:
			if due == nil {
				due = time.After(quiet)
			}
		case lost := <-watch.Errors:
			r.logger.Warn("watching files", zap.Error(lost))
		case <-r.asked:
			r.reload(true)
			due = time.After(0)
		case <-due:
			due = nil
			r.reload(false)
			if err == nil && r.watchAll(watch) { // what happened before it was watched
				due = time.After(quiet)
			}
		}
	}
}

// watchAll watches the directories of all files that matter, since an editor
// replaces files, and of all symbolic links on the way to them, since a deployment
// changes links. It reports whether any of them was not watched before.
func (r *reloader) watchAll(w *fsnotify.Watcher) (added bool) {
	for _, file := range append(filesOf(r.path, r.current.config, r.current.sets), r.named...) {
		dirs := []string{filepath.Dir(file)}
		if real, err := filepath.EvalSymlinks(file); err == nil {
			dirs = append(dirs, filepath.Dir(real))
		}
		for path := file; path != filepath.Dir(path); path = filepath.Dir(path) {
			if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSymlink != 0 {
				dirs = append(dirs, filepath.Dir(path))
			}
		}
		for _, dir := range dirs {
			if !slices.Contains(w.WatchList(), dir) {
				added = w.Add(dir) == nil || added // a directory that is gone is a fault the load will name
			}
		}
	}
	return added
}

// reload loads and, if all is well, swaps. It says what came of it; where the
// files are as they were, only if it was asked.
func (r *reloader) reload(asked bool) {
	content := r.fingerprint()
	if content == r.seen {
		in := zap.Uint64("generation", r.current.snapshot.Generation())
		switch {
		case asked && r.failed:
			r.logger.Warn("nothing has changed since the load that failed", in)
		case asked:
			r.logger.Info("nothing has changed", in)
		}
		return
	}
	r.seen = content
	next, err := load(r.path, r.shared, r.current.snapshot.Generation()+1)
	r.failed = err != nil
	if r.fingerprint() != content { // somebody is writing: what was read may be half of this and half of that
		if err == nil {
			next.snapshot.Close()
		}
		r.seen = [sha256.Size]byte{}
		r.ask()
		return
	}
	if err != nil {
		r.board.fail(err)
		r.logger.Error("the new configuration is not used; the old one stays in force", zap.Error(err),
			zap.Uint64("generation", r.current.snapshot.Generation()))
		return
	}
	last := r.current
	r.certs.Replace(next.certs)
	r.edge.Swap(next.snapshot)
	r.current = next
	r.board.load(next, r.shared.engines.Sizes())
	fields := append(changes(last, next), zap.Uint64("generation", next.snapshot.Generation()), zap.Int("engines", r.shared.engines.Len()))
	r.logger.Info("reloaded", fields...)
}

// fingerprint is the content of everything a load would read now.
func (r *reloader) fingerprint() (sum [sha256.Size]byte) {
	sum, r.named = fingerprint(r.path)
	return sum
}

// fingerprint is the content and the mode of everything that a load of the
// configuration at path would read now, and what files that is.
func fingerprint(path string) (sum [sha256.Size]byte, files []string) {
	c, _ := config.Load(path) // faults come up again in load; this is for the names of files
	var sets map[string]rules.Set
	if c != nil {
		sets, _ = loadRules(c)
	}
	files = filesOf(path, c, sets)
	h := sha256.New()
	for _, file := range files {
		mode, part, err := digest(file)
		_, _ = fmt.Fprintf(h, "%q %v %v %x\n", file, mode, err, part) // a hash takes everything
	}
	return [sha256.Size]byte(h.Sum(nil)), files
}

// digest is the mode and the content of a file. That of a pipe or a device, which
// may never end, is nothing.
func digest(file string) (mode os.FileMode, sum []byte, err error) {
	info, err := os.Stat(file)
	if err != nil || !info.Mode().IsRegular() {
		return mode, nil, err
	}
	f, err := os.Open(file)
	if err != nil {
		return info.Mode(), nil, err
	}
	defer f.Close() //nolint:errcheck // nothing was written
	h := sha256.New()
	_, err = io.Copy(h, f) // lists can be large
	return info.Mode(), h.Sum(nil), err
}

// changes says what is new in policy terms, app by app, and which changes need a
// restart.
func changes(last, next *loaded) []zap.Field {
	var added, removed, changed []string
	unchanged := 0
	old := map[string]config.App{}
	for _, a := range last.config.Apps {
		old[a.Name] = a
	}
	sameForAll := reflect.DeepEqual(last.config.Addresses, next.config.Addresses)
	for _, a := range next.config.Apps {
		before, was := old[a.Name]
		delete(old, a.Name)
		switch {
		case !was:
			added = append(added, a.Name)
		case sameForAll && reflect.DeepEqual(before, a) && last.sets[a.Name].Equal(next.sets[a.Name]) &&
			last.policies[a.Name].SameFiles(next.policies[a.Name]):
			unchanged++
		default:
			changed = append(changed, a.Name)
		}
	}
	for name := range old {
		removed = append(removed, name)
	}
	slices.Sort(removed)
	fields := []zap.Field{
		zap.Strings("added", added), zap.Strings("removed", removed), zap.Strings("changed", changed), zap.Int("unchanged", unchanged),
	}
	if !reflect.DeepEqual(last.config.Process, next.config.Process) || last.config.Log.Keep != next.config.Log.Keep {
		fields = append(fields, zap.String("restart_needed", "listen, state or the limits of log have changed; they are fixed while the edge runs"))
	}
	return fields
}

// filesOf are all files that a load of the configuration at path reads, c and sets
// being what it read.
func filesOf(path string, c *config.Config, sets map[string]rules.Set) []string {
	files := append(c.Files(path), crsFiles(sets)...)
	for _, set := range sets {
		files = append(files, set.ListFiles()...)
	}
	slices.Sort(files)
	return slices.Compact(files)
}

// crsFiles are the files of the rule sets on disk that sets use, in order.
func crsFiles(sets map[string]rules.Set) []string {
	var all []string
	for _, set := range sets {
		if files, err := set.WAF.CRSFiles(); err == nil {
			all = append(all, files...)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// loadRules reads the rules of all apps.
func loadRules(c *config.Config) (map[string]rules.Set, error) {
	var errs []error
	sets := map[string]rules.Set{}
	for _, a := range c.Apps {
		set, err := rules.Load(a.Rules)
		sets[a.Name] = set
		errs = append(errs, err)
	}
	return sets, errors.Join(errs...)
}
