use super::threads::run;
use super::*;

#[test]
fn a_failure_of_any_process_reaches_all_with_its_code_and_sentence() {
    for (guilty, said) in [(0, "no disk"), (2, "process 2: no disk")] {
        let told = run(3, |ranks| {
            let mine = if ranks.rank() == guilty { Err(exit::failure(Code::Io, "no disk")) } else { Ok(ranks.rank()) };
            let error = ranks.gather(mine).unwrap_err();
            // And all go on in step.
            (exit::code_of(&error), format!("{error:#}"), ranks.gather(Ok(ranks.rank() * 10)).unwrap())
        });
        assert_eq!(told, vec![(Code::Io, said.to_string(), vec![0, 10, 20]); 3]);
    }
}

#[test]
fn a_failure_between_exchanges_is_told_at_the_next_and_once() {
    let told = run(3, |ranks| {
        let error = ranks.together(|| {
            ranks.gather(Ok(1))?;
            if ranks.rank() == 1 {
                return Err(exit::data("a torn file"));
            }
            ranks.any(false)
        });
        (format!("{:#}", error.unwrap_err()), ranks.together(|| ranks.any(ranks.rank() == 2)).unwrap())
    });
    assert_eq!(told, vec![("process 1: a torn file".to_string(), true); 3]);
}

#[test]
fn what_is_dealt_out_comes_back_in_order() {
    let order: Vec<usize> = (100..111).collect();
    for size in [1, 2, 3, 4] {
        let told = run(size, |ranks| {
            let hand = ranks.deal(&order, 2);
            let parts: Vec<Vec<usize>> = hand.chunks(2).map(<[usize]>::to_vec).collect();
            ranks.in_turn(ranks.gather(Ok(parts)).unwrap()).concat()
        });
        assert_eq!(told, vec![order.clone(); size]);
    }
}

#[test]
fn numbers_and_tensors_arrive_as_they_are() {
    let odd = [f64::MIN_POSITIVE / 8.0, -0.0, 0.1, f64::INFINITY, 1e300, 65504.0];
    let device = Device::Cpu;
    let like = [Tensor::zeros((2, 3), DType::F32, &device).unwrap(), Tensor::zeros(1, DType::F32, &device).unwrap()];
    let told = run(3, |ranks| {
        let all = ranks.gather(Ok(odd.to_vec())).unwrap();
        assert!(ranks.gather(Ok(f64::NAN)).unwrap().iter().all(|v| v.is_nan()));
        assert_eq!(ranks.from_first(Ok(None::<f64>)).unwrap(), None);
        assert_eq!(ranks.from_first(Ok(Some(ranks.rank()))).unwrap(), Some(0));
        assert_eq!(ranks.bytes_of_first(Ok(vec![ranks.rank() as u8 + 7; 3])).unwrap(), [7; 3]);
        let rank = ranks.rank() as f32;
        let mine = [Tensor::full(rank, (2, 3), &Device::Cpu).unwrap(), Tensor::full(-rank, 1, &Device::Cpu).unwrap()];
        let mine = if ranks.rank() == 1 { Ok(None) } else { Ok(Some(mine.to_vec())) };
        let tensors = ranks.gather_tensors(mine, &like).unwrap();
        let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(tensors[2][0].dims(), [2, 3]);
        (all, tensors.iter().flatten().map(values).collect::<Vec<_>>())
    });
    for (all, tensors) in told {
        assert!(all.iter().flatten().zip(odd.iter().cycle()).all(|(a, b)| a.to_bits() == b.to_bits()));
        assert_eq!(tensors, [vec![0.0; 6], vec![-0.0; 1], vec![0.0; 6], vec![0.0; 1], vec![2.0; 6], vec![-2.0; 1]]);
    }
}
