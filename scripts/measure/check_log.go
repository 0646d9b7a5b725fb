// Holds an audit log to Go's own transparency log: check_log.go FOLDER [PROOF...]
//
//	GO111MODULE=off GOPATH=/usr/share/gocode go run scripts/measure/check_log.go FOLDER PROOF...
//
// (Debian's golang-go and golang-golang-x-mod-dev.) FOLDER is what `trimtab audit export` wrote: its checkpoint is opened
// by note.Open with the key of audit.pub; every entry of its bundles is proved by tiles that tlog.TileHashReader
// authenticates, and the proof checked; trees of earlier sizes are proved to be its beginning. PROOF is a file that
// `trimtab audit prove` wrote. Then each is tampered with, and Go must refuse. Prints counts as JSON.
package main

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

type reader struct{ folder string }

func (r reader) Height() int { return 8 }

// tlog-tiles leave out the height, which is 8, in their paths.
func (r reader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var out [][]byte
	for _, tile := range tiles {
		data, err := os.ReadFile(filepath.Join(r.folder, "tile"+tile.Path()[len("tile/8"):]))
		if err != nil {
			return nil, err
		}
		out = append(out, data)
	}
	return out, nil
}

func (r reader) SaveTiles([]tlog.Tile, [][]byte) {}

func openCheckpoint(text []byte, verifier note.Verifier) (tlog.Tree, error) {
	n, err := note.Open(text, note.VerifierList(verifier))
	if err != nil {
		return tlog.Tree{}, err
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) < 4 || lines[0] != verifier.Name() {
		return tlog.Tree{}, errors.New("no checkpoint of this log")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return tlog.Tree{}, err
	}
	hash, err := tlog.ParseHash(lines[2])
	return tlog.Tree{N: size, Hash: hash}, err
}

func bundle(folder string, index, width int64) [][]byte {
	tile := tlog.Tile{H: 8, L: -1, N: index, W: int(width)}
	path := strings.Replace(tile.Path(), "tile/8/data", "tile/entries", 1)
	data, err := os.ReadFile(filepath.Join(folder, path))
	check(err)
	var out [][]byte
	for len(data) > 0 {
		n := int(binary.BigEndian.Uint16(data))
		out = append(out, data[2:2+n])
		data = data[2+n:]
	}
	return out
}

type proof struct {
	Seq        int64
	Entry      string
	Proof      []string
	Checkpoint string
}

func checkProof(p proof, verifier note.Verifier) error {
	tree, err := openCheckpoint([]byte(p.Checkpoint), verifier)
	if err != nil {
		return err
	}
	var hashes tlog.RecordProof
	for _, text := range p.Proof {
		bytes, err := hex.DecodeString(text)
		if err != nil {
			return err
		}
		var h tlog.Hash
		copy(h[:], bytes)
		hashes = append(hashes, h)
	}
	return tlog.CheckRecord(hashes, tree.N, tree.Hash, p.Seq, tlog.RecordHash([]byte(p.Entry)))
}

func flip(text string, at int) string {
	bytes := []byte(text)
	bytes[at%len(bytes)] ^= 1
	return string(bytes)
}

func main() {
	folder := os.Args[1]
	key, err := os.ReadFile(filepath.Join(folder, "audit.pub"))
	check(err)
	verifier, err := note.NewVerifier(strings.TrimSpace(string(key)))
	check(err)
	text, err := os.ReadFile(filepath.Join(folder, "checkpoint"))
	check(err)
	tree, err := openCheckpoint(text, verifier)
	check(err)
	hashes := tlog.TileHashReader(tree, reader{folder})
	records, refused, proofs, prefixes, notes := 0, 0, 0, 0, 0
	for first := int64(0); first < tree.N; first += 256 {
		width := tree.N - first
		if width > 256 {
			width = 256
		}
		for i, entry := range bundle(folder, first/256, width) {
			seq := first + int64(i)
			p, err := tlog.ProveRecord(tree.N, seq, hashes)
			check(err)
			check(tlog.CheckRecord(p, tree.N, tree.Hash, seq, tlog.RecordHash(entry)))
			records++
			entry[int(seq)%len(entry)] ^= 1
			if tlog.CheckRecord(p, tree.N, tree.Hash, seq, tlog.RecordHash(entry)) == nil {
				log.Fatalf("entry %d is taken with a byte changed", seq)
			}
			refused++
		}
	}
	for size := int64(1); size < tree.N; size += 1 + size/7 {
		h, err := tlog.TreeHash(size, hashes)
		check(err)
		p, err := tlog.ProveTree(tree.N, size, hashes)
		check(err)
		check(tlog.CheckTree(p, tree.N, tree.Hash, size, h))
		prefixes++
	}
	for i := range text {
		if _, err := openCheckpoint([]byte(flip(string(text), i)), verifier); err == nil {
			log.Fatalf("the checkpoint is taken with byte %d changed", i)
		}
		notes++
	}
	for _, path := range os.Args[2:] {
		data, err := os.ReadFile(path)
		check(err)
		var p proof
		check(json.Unmarshal(data, &p))
		check(checkProof(p, verifier))
		proofs++
		bad := p
		bad.Entry = flip(p.Entry, proofs)
		worse := p
		worse.Checkpoint = flip(p.Checkpoint, proofs)
		if checkProof(bad, verifier) == nil || checkProof(worse, verifier) == nil {
			log.Fatalf("%s is taken with a byte changed", path)
		}
		refused += 2
	}
	fmt.Printf("{\"log\": %q, \"records\": %d, \"prefixes\": %d, \"proofs\": %d, \"refused\": %d, \"notes_refused\": %d, "+
		"\"root\": %q}\n", verifier.Name(), records, prefixes, proofs, refused, notes,
		base64.StdEncoding.EncodeToString(tree.Hash[:]))
}
