package ociimage

import (
	"archive/tar"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Layer takes the files of an image. Names are relative to the image's root. All belong to root unless said otherwise.
type Layer struct{ tar *tar.Writer }

// Dir adds a directory.
func (l *Layer) Dir(name string, mode int64) error { return l.OwnedDir(name, mode, 0) }

// OwnedDir adds a directory of the user and group of that number.
func (l *Layer) OwnedDir(name string, mode int64, owner int) error {
	return l.tar.WriteHeader(&tar.Header{
		Name: name + "/", Mode: mode, Uid: owner, Gid: owner, ModTime: epoch, Typeflag: tar.TypeDir,
	})
}

// Bytes adds a file with the given content.
func (l *Layer) Bytes(name string, mode int64, content []byte) error {
	header := &tar.Header{Name: name, Mode: mode, Size: int64(len(content)), ModTime: epoch, Typeflag: tar.TypeReg}
	if err := l.tar.WriteHeader(header); err != nil {
		return err
	}
	_, err := l.tar.Write(content)
	return err
}

// File adds a copy of a file of this machine.
func (l *Layer) File(name string, mode int64, source string) error {
	return addFile(l.tar, name, source, mode)
}

// Link adds a symbolic link.
func (l *Layer) Link(name, target string) error {
	return l.tar.WriteHeader(&tar.Header{
		Name: name, Linkname: target, Mode: 0o777, ModTime: epoch, Typeflag: tar.TypeSymlink,
	})
}

// Tree adds all that is below a directory of this machine, with its owners and permissions; skip leaves out a relative
// path, with all below it. Devices and sockets are left out.
func (l *Layer) Tree(source string, skip func(name string) bool) error {
	linked := make(map[inode]string)
	return filepath.WalkDir(source, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(source, path)
		if err != nil || name == "." {
			return err
		}
		if skip != nil && skip(name) {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		return l.copy(name, path, entry, linked)
	})
}

type inode struct{ device, number uint64 }

func (l *Layer) copy(name, path string, entry fs.DirEntry, linked map[inode]string) error {
	info, err := entry.Info()
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: its owner can't be told", path)
	}
	header := &tar.Header{
		Name: name, Mode: int64(stat.Mode & 0o7777), Uid: int(stat.Uid), Gid: int(stat.Gid), ModTime: epoch,
	}
	switch {
	case info.IsDir():
		header.Typeflag, header.Name = tar.TypeDir, name+"/"
	case info.Mode()&fs.ModeSymlink != 0:
		header.Typeflag = tar.TypeSymlink
		if header.Linkname, err = os.Readlink(path); err != nil {
			return err
		}
	case info.Mode().IsRegular():
		return l.copyRegular(header, path, info, inode{uint64(stat.Dev), stat.Ino}, stat.Nlink > 1, linked)
	default:
		return nil
	}
	return l.tar.WriteHeader(header)
}

func (l *Layer) copyRegular(header *tar.Header, path string, info fs.FileInfo, id inode, shared bool, linked map[inode]string) error {
	if first, seen := linked[id]; shared && seen {
		header.Typeflag, header.Linkname = tar.TypeLink, first
		return l.tar.WriteHeader(header)
	}
	linked[id] = header.Name
	header.Typeflag, header.Size = tar.TypeReg, info.Size()
	if err := l.tar.WriteHeader(header); err != nil {
		return err
	}
	return l.copyContent(path)
}

func (l *Layer) copyContent(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = io.Copy(l.tar, file)
	return err
}
