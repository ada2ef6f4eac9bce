// Package addons makes the images of the pods that each cluster has, from the programs that package binaries built.
package addons

import (
	"io"
	"path/filepath"

	"grid.build/e2e/cluster/internal/binaries"
	"grid.build/e2e/cluster/internal/cache"
	"grid.build/e2e/cluster/internal/node"
	"grid.build/e2e/cluster/ociimage"
)

// TraefikVersion is that of build/traefik.
const TraefikVersion = "3.5.4"

// ProgramImage describes an image with one static program in it.
type ProgramImage struct {
	Program string
	Name    string
	User    string
	Files   func(*ociimage.Layer) error // what the image holds besides, or nil
}

// Images are the OCI archives that each node needs.
func Images(progress io.Writer) ([]string, error) {
	var archives []string
	for _, image := range []ProgramImage{
		{Program: "pause", Name: node.PauseImage, User: "65535:65535"},
		{Program: "traefik", Name: "localhost/traefik:" + TraefikVersion, User: "65532:65532"},
	} {
		archive, err := image.Archive(progress)
		if err != nil {
			return nil, err
		}
		archives = append(archives, archive)
	}
	return archives, nil
}

// Archive returns the image's OCI archive, which it makes if need be.
func (i ProgramImage) Archive(progress io.Writer) (string, error) {
	dir, err := binaries.Build(i.Program, progress)
	if err != nil {
		return "", err
	}
	// The name of the folder tells what the program was built from.
	key, err := cache.Key([]string{filepath.Base(dir), i.Name, i.User})
	if err != nil {
		return "", err
	}
	file := i.Program + ".tar"
	kept, err := cache.Ensure("images", i.Program+"-"+key, func(target string) error {
		return ociimage.Write(filepath.Join(target, file), ociimage.Image{
			Name:       i.Name,
			Entrypoint: []string{"/" + i.Program},
			User:       i.User,
			Layer: func(layer *ociimage.Layer) error {
				if i.Files != nil {
					if err := i.Files(layer); err != nil {
						return err
					}
				}
				return layer.File(i.Program, 0o755, filepath.Join(dir, i.Program))
			},
		})
	})
	return filepath.Join(kept, file), err
}
