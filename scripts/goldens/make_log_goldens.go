// Makes tests/golden/log/tree.json and note.json by Go's own transparency log: roots, proofs, paths of tiles, signed
// notes. Debian 12's golang-go 1.19.8 and golang-golang-x-mod-dev 0.7.0:
//
//	GO111MODULE=off GOPATH=/usr/share/gocode go run scripts/goldens/make_log_goldens.go tests/golden/log
//
// Leaf i of the tree is "entry i". The keys are made of fixed seeds, so the same versions write the same bytes.
package main

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const leaves = 66000

type hashes []tlog.Hash

func (h hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		out[i] = h[index]
	}
	return out, nil
}

type proof struct {
	Index  int64    `json:"index"` // or the older tree's size
	Size   int64    `json:"size"`
	Hashes []string `json:"hashes"`
}

type root struct {
	Size int64  `json:"size"`
	Root string `json:"root"`
}

type path struct {
	Level int    `json:"level"`
	Index int64  `json:"index"`
	Width int    `json:"width"`
	Path  string `json:"path"`
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func texts(list []tlog.Hash) []string {
	out := []string{}
	for _, h := range list {
		out = append(out, hex.EncodeToString(h[:]))
	}
	return out
}

func write(folder, name string, value interface{}) {
	data, err := json.MarshalIndent(value, "", " ")
	check(err)
	check(os.WriteFile(filepath.Join(folder, name), append(data, '\n'), 0o644))
}

func tree(folder string) {
	var stored hashes
	for i := int64(0); i < leaves; i++ {
		more, err := tlog.StoredHashes(i, []byte(fmt.Sprintf("entry %d", i)), stored)
		check(err)
		stored = append(stored, more...)
	}
	var out struct {
		Roots       []root  `json:"roots"`
		Inclusion   []proof `json:"inclusion"`
		Consistency []proof `json:"consistency"`
		Paths       []path  `json:"paths"`
	}
	sizes := []int64{1, 2, 3, 4, 5, 7, 8, 11, 100, 255, 256, 257, 511, 512, 1000, 4096, 10000, 65535, 65536, 65537, leaves}
	for _, size := range sizes {
		h, err := tlog.TreeHash(size, stored)
		check(err)
		out.Roots = append(out.Roots, root{size, hex.EncodeToString(h[:])})
		for _, index := range []int64{0, 1, size / 3, size / 2, size - 2, size - 1} {
			if index < 0 || index >= size {
				continue
			}
			p, err := tlog.ProveRecord(size, index, stored)
			check(err)
			out.Inclusion = append(out.Inclusion, proof{index, size, texts(p)})
		}
		for _, old := range []int64{1, 2, 3, size / 3, size / 2, 256, 4096, size - 1, size} {
			if old < 1 || old > size {
				continue
			}
			p, err := tlog.ProveTree(size, old, stored)
			check(err)
			out.Consistency = append(out.Consistency, proof{old, size, texts(p)})
		}
	}
	// Go's path has the height of its tiles in it, which tlog-tiles leaves out.
	for _, n := range []int64{0, 1, 67, 999, 1000, 1001, 1234067, 999999999} {
		for _, width := range []int{1, 45, 256} {
			for level := 0; level < 3; level++ {
				name := tlog.Tile{H: 8, L: level, N: n, W: width}.Path()
				out.Paths = append(out.Paths, path{level, n, width, "tile" + name[len("tile/8"):]})
			}
		}
	}
	write(folder, "tree.json", out)
}

type notes struct {
	Name     string   `json:"name"`
	Seed     string   `json:"seed"`
	Verifier string   `json:"verifier"`
	Text     string   `json:"text"`
	Note     string   `json:"note"`
	Two      string   `json:"two"`     // signed by another key too, whose line comes first
	Refused  []string `json:"refused"` // by note.Open with the verifier
}

func noteGoldens(folder string) {
	var signers []note.Signer
	out := notes{Name: "example.org/log"}
	for i, name := range []string{out.Name, "another"} {
		seed := sha256.Sum256([]byte(fmt.Sprintf("seed %d", i)))
		private := ed25519.NewKeyFromSeed(seed[:])
		public := append([]byte{1}, private[32:]...)
		id := sha256.Sum256(append([]byte(name+"\n"), public...))
		skey := fmt.Sprintf("PRIVATE+KEY+%s+%x+%s", name, id[:4],
			base64.StdEncoding.EncodeToString(append([]byte{1}, seed[:]...)))
		signer, err := note.NewSigner(skey)
		check(err)
		signers = append(signers, signer)
		if i == 0 {
			out.Seed = hex.EncodeToString(seed[:])
			out.Verifier, err = note.NewEd25519VerifierKey(name, ed25519.PublicKey(private[32:]))
			check(err)
		}
	}
	h := tlog.RecordHash([]byte("entry 0"))
	out.Text = fmt.Sprintf("%s\n1\n%s\n", out.Name, base64.StdEncoding.EncodeToString(h[:]))
	signed, err := note.Sign(&note.Note{Text: out.Text}, signers[0])
	check(err)
	out.Note = string(signed)
	signed, err = note.Sign(&note.Note{Text: out.Text}, signers[1], signers[0])
	check(err)
	out.Two = string(signed)
	verifier, err := note.NewVerifier(out.Verifier)
	check(err)
	known := note.VerifierList(verifier)
	_, err = note.Open([]byte(out.Two), known)
	check(err)
	other, err := note.Sign(&note.Note{Text: out.Text}, signers[1])
	check(err)
	tries := []string{string(other), out.Text, out.Note[:len(out.Note)-1], "\n" + out.Note[1:], out.Note + "\n", out.Note + "x\n"}
	for i := range out.Note { // a bit of each byte
		changed := []byte(out.Note)
		changed[i] ^= 1 << (i % 8)
		tries = append(tries, string(changed))
	}
	for _, try := range tries {
		if _, err := note.Open([]byte(try), known); err == nil {
			log.Fatalf("Go takes %q", try)
		}
		out.Refused = append(out.Refused, base64.StdEncoding.EncodeToString([]byte(try)))
	}
	write(folder, "note.json", out)
}

func main() {
	tree(os.Args[1])
	noteGoldens(os.Args[1])
}
