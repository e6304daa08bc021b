"""Top-1 accuracy of a PyTorch model: see «python scripts/evaluate_pytorch.py --help»."""

if __name__ == "__main__":
    from resnet8.cli.scripts import evaluate_pytorch, main

    main(evaluate_pytorch)
